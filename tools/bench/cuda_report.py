r"""What nvcc makes of the CUDA kernels: registers, spills and the instruction mix, as a table in kernels/cuda_report.md.

  GRAPNEL_TRAFFIC=1 build/release/tests/test_cuda_host \
    -sfe='*/model_test*,*/hopper_test*,*/hopper_faults*,*/blocks_test*,*/shadow_test*' 2> launches.txt
  python3 tools/bench/cuda_report.py [--nvcc NVCC] [--nvdisasm NVDISASM] [--launches launches.txt] [--families NAME...]

Needs nvcc, c++filt and nvdisasm (of the CUDA toolkit, or of Python's `triton` package). Fails if a kernel spills, or on Hopper
touches global memory before it waits for the launch before. The first line asks the model of a GPU (tests/cuda_host)
how the tests launched each kernel, but for those of tests of the model itself; with that the report ends with a table. --families
prints what nvcc makes of these folders of kernels/, and writes nothing.
"""
import argparse
import collections
import concurrent.futures
import glob
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
ARCHITECTURES = ["sm_80", "sm_90a"]
# Columns of the instruction mix, by the beginnings of opcodes.
MIX = {
    "tensor cores": ("HMMA", "HGMMA"),
    "FFMA": ("FFMA",),
    "loads": ("LDG",),
    "async": ("LDGSTS", "UTMALDG", "UBLKCP"),
    "stores": ("STG",),
    "shared": ("LDS", "STS", "LDSM"),
    "integer": ("IMAD", "IADD", "LEA", "LOP", "SHF", "ISETP"),
    "double": ("DADD", "DMUL", "DFMA"),
}


GLOBAL_MEMORY = re.compile("LDG|STG|ATOM|RED|UTMALDG|UTMASTG|(LD|ST)$")
WAIT = "ACQBULK"  # griddepcontrol.wait


def find_nvdisasm():
    found = shutil.which("nvdisasm")
    if found:
        return found
    for folder in sys.path:
        for path in glob.glob(os.path.join(folder, "triton/backends/nvidia/bin/nvdisasm")):
            return path
    sys.exit("cuda_report.py: nvdisasm was not found; give --nvdisasm, or install Python's triton package")


def run(command):
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"cuda_report.py: {' '.join(command)}\n{result.stderr}")
    return result.stdout + result.stderr


def short_name(mangled):
    name = run(["c++filt", mangled]).strip()
    name = re.sub(r"\((?!anonymous).*", "", re.sub(r"\(anonymous namespace\)::", "", name))
    return re.sub(r"grapnel::(kernels|device)::|^void |\(\w+(::\w+)?\)(?=\d)", "", name)


def kernels_of(source, architecture, options):
    """{short name: (registers, static shared bytes, {column: instructions}, all instructions, what is wrong)} of one file."""
    with tempfile.TemporaryDirectory() as folder:
        include = pathlib.Path(folder) / "grapnel"
        include.mkdir()
        (include / "kernels").symlink_to(ROOT / "kernels")
        cubin = os.path.join(folder, "kernels.cubin")
        report = run([options.nvcc, "-std=c++20", f"-arch={architecture}", "--expt-relaxed-constexpr", "-Xptxas", "-v",
                      f"-I{folder}", "-cubin", "-o", cubin, str(source)])
        listing = run([options.nvdisasm, "-c", cubin])
    mixes = collections.defaultdict(collections.Counter)
    early = set()
    function = None
    for line in listing.splitlines():
        section = re.match(r"\s*\.section\s+\.text\.(\w+)", line)
        function = section[1] if section else function
        opcode = re.search(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9_]+)", line)
        if function and opcode and opcode[1] != "NOP":
            mixes[function][opcode[1]] += 1
            if GLOBAL_MEMORY.match(opcode[1]) and WAIT not in mixes[function]:
                early.add(function)
    result = {}
    for entry in report.split("Compiling entry function '")[1:]:
        mangled = entry.split("'")[0]
        opcodes = mixes[mangled]
        mix = {name: sum(n for code, n in opcodes.items() if code.startswith(codes)) for name, codes in MIX.items()}
        mix["loads"] -= sum(n for code, n in opcodes.items() if code.startswith("LDGSTS"))
        wrong = [f"spills {n} bytes" for n in re.findall(r"([1-9]\d*) bytes spill", entry)]
        if architecture == "sm_90a" and (mangled in early or WAIT not in opcodes):
            wrong.append("touches global memory before it waits for the launch before")
        registers = int(re.search(r"Used (\d+) registers", entry)[1])
        shared = sum(int(n) for n in re.findall(r"(\d+) bytes smem", entry))
        result[short_name(mangled)] = (registers, shared, mix, sum(opcodes.values()), wrong)
    return result


def table(columns, rows):
    return ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|",
            *("| " + " | ".join(map(str, row)) + " |" for row in rows), ""]


def launches_of(text):
    """Rows of the table that GRAPNEL_TRAFFIC makes: name, threads, shared bytes, sectors and passes a request."""
    rows = []
    for line in text[text.find("launched as"):].splitlines()[1:]:
        fields = line.rsplit(None, 7)
        if len(fields) != 8 or not fields[1].isdigit():
            break
        name, _, threads, shared, requests, sectors, shared_requests, passes = fields
        rows.append((name.strip(), threads, shared, sectors if int(requests) else "", passes if int(shared_requests) else ""))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nvcc", default="nvcc")
    parser.add_argument("--nvdisasm", default=None)
    parser.add_argument("--launches", type=pathlib.Path, help="what the tests printed with GRAPNEL_TRAFFIC=1")
    parser.add_argument("--families", nargs="+", metavar="NAME", help="only these, on standard output")
    options = parser.parse_args()
    options.nvdisasm = options.nvdisasm or find_nvdisasm()
    launches = launches_of(options.launches.read_text()) if options.launches else []
    if options.launches and not launches:
        sys.exit(f"cuda_report.py: {options.launches} holds no table of launches; it is made by a program run with "
                 "GRAPNEL_TRAFFIC=1")
    sources = [source for source in sorted(ROOT.glob("kernels/*/*.cu"))
               if not options.families or source.parent.name in options.families]
    if not sources:
        sys.exit(f"cuda_report.py: no CUDA kernels in {', '.join(options.families)}")
    jobs = [(source, architecture) for architecture in ARCHITECTURES for source in sources]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda job: kernels_of(*job, options), jobs))
    version = re.search(r"release ([\d.]+)", run([options.nvcc, "--version"]))[1]
    lines = ["# What nvcc makes of the CUDA kernels", "",
             f"Written by `tools/bench/cuda_report.py` with nvcc {version}: registers a thread, bytes of shared memory a block that the",
             "kernel itself asks for (its launch may add to them), and how many instructions of each kind stand in a kernel (not how",
             "often they run). No kernel spills registers.", ""]
    wrongs = []
    for architecture in ARCHITECTURES:
        rows = []
        for (source, of), kernels in zip(jobs, results):
            if of != architecture:
                continue
            for name, (registers, shared, mix, count, wrong) in sorted(kernels.items()):
                wrongs += [f"{name} for {architecture} {what}" for what in wrong]
                rows.append((f"{source.parent.name}: `{name}`", registers, shared or "", count,
                             *(mix[column] or "" for column in MIX)))
        lines += [f"## {architecture}", "", *table(["kernel", "registers", "static shared", "instructions", *MIX], rows)]
    if launches:
        lines += ["## As launched in the tests", "",
                  "From the least to the most of all launches of a name, on the model of a GPU (`tests/cuda_host`): threads a block,",
                  "bytes of shared memory given at the launch, and, on average, sectors of 32 bytes a request to global memory (4 where",
                  "neighbours read floats one by one, 16 where they read fours) and passes over the banks a request to shared memory (1",
                  "without conflicts, 4 for fours).", "",
                  *table(["launched as", "threads", "shared bytes", "sectors", "passes"], launches)]
    if wrongs:
        sys.exit("cuda_report.py:\n" + "\n".join(wrongs))
    text = "\n".join(lines[:-1]) + "\n"
    if options.families:
        print(text, end="")
        return
    path = ROOT / "kernels/cuda_report.md"
    path.write_text(text)
    print(f"wrote {path.relative_to(ROOT)}: {sum(map(len, results))} kernels")


if __name__ == "__main__":
    main()
