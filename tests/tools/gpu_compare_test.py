"""tools/bench/gpu_compare.py and tools/gpu_check.sh without a GPU: the table of given times, and what is said where something is
missing."""
import contextlib
import io
import os
import stat
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools/bench"))
sys.dont_write_bytecode = True
import gpu_compare  # noqa: E402
from gpu_compare import Case, Failure  # noqa: E402

TORCH = SimpleNamespace(compiler=SimpleNamespace(reset=lambda: None), cuda=SimpleNamespace(empty_cache=lambda: None))


def times(case):
    """Of three rounds; Grapnel takes 1, 2 and 4 ms, the fastest of PyTorch twice as long."""
    own, ways = [1.0, 2.0, 4.0], gpu_compare.ways_of(case)
    return {"Grapnel": own, **{way: [t * (2 + len(ways) - 1 - i) for t in own] for i, way in enumerate(ways)}}


def compare(compete, torch=TORCH, seconds=1e9):
    """(exit code, standard output, standard error)"""
    out, error = io.StringIO(), io.StringIO()
    with mock.patch.object(gpu_compare, "find_torch", lambda: (torch, "a GPU")), \
            contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = gpu_compare.compare("grapnel", "resnet18", seconds, compete)
    return code, out.getvalue(), error.getvalue()


def run(*command, **environment):
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


class Table(unittest.TestCase):
    def test_a_row_a_case(self):
        code, out, error = compare(lambda program, torch, case: (times(case), {}))
        self.assertEqual((code, error), (0, ""))
        rows = [line.split(" | ") for line in out.splitlines() if ", batch " in line]
        self.assertEqual(len(rows), 12)
        self.assertEqual({len(cells) for cells in rows}, {8})
        first = rows[0]
        self.assertEqual(first[0], "| infer, batch 1, tf32")
        self.assertEqual(first[1], "2 (1 to 4)")
        self.assertEqual(first[3:7], ["10", "8", "6", "4"])
        self.assertEqual(first[7], "2 (2 to 2), compiled |")
        self.assertEqual({cells[0].split(", ")[2] for cells in rows}, {"fp32", "tf32", "bf16"})
        self.assertEqual({tuple(cells[0][2:].split(", ")[:2]) for cells in rows},
                         {("infer", "batch 1"), ("infer", "batch 256"), ("gradcam", "batch 1"), ("train", "batch 128")})
        for cells in rows:
            self.assertGreater(float(cells[2]), 0.05)

    def test_ratios_are_by_round_and_of_the_fastest(self):
        rounds = {"Grapnel": [1, 2, 4], "eager": [9, 9, 9], "channels last": [3, 3, 3]}
        cells = gpu_compare.row(Case("vgg16", "infer", 1, "bf16"), rounds).split(" | ")
        self.assertEqual(cells[3:], ["9", "3", "", "", "1.5 (0.75 to 3), channels last |"])

    def test_what_failed_is_told_below(self):
        def compete(program, torch, case):
            if case.task == "train":
                raise Failure("out of memory")
            return {"Grapnel": [1.0], "eager": [2.0]}, {"compiled": "RuntimeError: no"}

        code, out, _ = compare(compete)
        self.assertEqual(code, 0)
        self.assertIn("train, batch 128, bf16: out of memory\n", out)
        self.assertIn("infer, batch 1, tf32, compiled: RuntimeError: no\n", out)

    def test_no_case_begins_late(self):
        code, out, _ = compare(lambda program, torch, case: (times(case), {}), seconds=-1)
        self.assertEqual(code, 0)
        self.assertIn("left out after -1 s: infer, batch 1, tf32; ", out)
        self.assertNotIn("| infer", out)

    def test_contestants_that_fail_leave_the_others(self):
        class Peer:
            def __init__(self, torch, case, way):
                if way == "eager":
                    raise ValueError("bad\nindeed")
                self.left = 1 if way == "CUDA graph" else 99

            def measure(self):
                self.left -= 1
                if self.left < 0:
                    raise MemoryError
                return 5.0

        ours = SimpleNamespace(measure=lambda: 1.0, end=lambda: None)
        with mock.patch.object(gpu_compare, "Torch", Peer), mock.patch.object(gpu_compare, "Grapnel", lambda *_: ours):
            rounds, failed = gpu_compare.compete("", TORCH, Case("resnet18", "infer", 1, "fp32"))
        self.assertEqual(set(rounds), {"Grapnel", "channels last", "compiled"})
        self.assertEqual({len(times) for times in rounds.values()}, {gpu_compare.ROUNDS})
        self.assertEqual(failed, {"eager": "ValueError: bad", "CUDA graph": "MemoryError:"})


class Missing(unittest.TestCase):
    def test_pytorch(self):
        code, out, error = compare(lambda program, torch, case: ({"Grapnel": [1.0]}, {}), torch=None)
        self.assertEqual(code, 2)
        self.assertIn("| infer, batch 1, tf32 | 1 (1 to 1) | ", out)
        self.assertEqual(error.count("\n"), 1)
        self.assertIn("without PyTorch", error)

    def test_grapnel_or_its_gpu(self):
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder) / "grapnel"
            program.write_text("#!/bin/sh\necho 'grapnel bench: this machine has no CUDA device' >&2\nexit 2\n")
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
            for path, said in ((program, "no CUDA device"), (Path(folder) / "none", "does not start")):
                ran = run(sys.executable, ROOT / "tools/bench/gpu_compare.py", path, "resnet18")
                self.assertEqual((ran.returncode, ran.stdout), (2, ""))
                self.assertEqual(ran.stderr.count("\n"), 1)
                self.assertIn(said, ran.stderr)

    def test_a_program_that_dies_in_the_middle(self):
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder) / "grapnel"
            program.write_text("#!/bin/sh\necho '{\"ready\": true}'\nread line\necho '{\"times_ms\": [3, 1, 2]}'\n"
                               "echo 'grapnel bench: out of memory' >&2\n")
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
            ours = gpu_compare.Grapnel(str(program), Case("resnet18", "infer", 1, "fp32"))
            self.assertEqual(ours.measure(), 2)
            with self.assertRaisesRegex(Failure, "out of memory"):
                ours.measure()
            ours.end()

    def test_options(self):
        for options in ([], ["grapnel", "resnet99"], ["grapnel", "resnet18", "--seconds", "soon"]):
            self.assertEqual(run(sys.executable, ROOT / "tools/bench/gpu_compare.py", *options).returncode, 2)


class Check(unittest.TestCase):
    """The script in a tree of its own, where everything that it calls says what it is told to."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.tree = Path(self.folder.name)
        self.addCleanup(self.folder.cleanup)
        self.write("tools/gpu_check.sh", (ROOT / "tools/gpu_check.sh").read_text())
        self.write("tools/bench/gpu_compare.py", "import sys; print('compared', *sys.argv[2:])\n")
        self.tool("bin/nvidia-smi", "[ \"$1\" = -L ] || echo 9.0")
        self.tool("bin/nvcc", "exit 0")
        self.tool("bin/cmake", "echo cmake \"$@\" >>cmake.log")
        self.tool("bin/compute-sanitizer", "shift 4; \"$@\"; echo ========= ERROR SUMMARY: 0 errors")
        self.tool("build/gpu/tests/test_cuda", "echo tests pass")
        for suite in ("test_engine", "test_nn"):
            self.tool(f"build/gpu/tests/{suite}", "echo tests on $GRAPNEL_TEST_DEVICE pass")

    def write(self, name, text):
        path = self.tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def tool(self, name, text):
        self.write(name, f"#!/bin/sh\n{text}\n").chmod(0o755)

    def check(self, *parts):
        return run("bash", self.tree / "tools/gpu_check.sh", *parts, PATH=f"{self.tree}/bin:{os.environ['PATH']}")

    def check_refuses(self, part, said, code=2):
        ran = self.check(part)
        self.assertEqual(ran.returncode, code, ran)
        self.assertEqual(ran.stderr.splitlines()[-1].count(said), 1, ran)
        self.assertEqual(ran.stderr.count("gpu_check.sh: "), 1, ran)

    def test_all_parts(self):
        ran = self.check()
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        for said in ("tests pass", "memcheck: ", "racecheck: ", "initcheck: ", "synccheck: ", "compared resnet18 --seconds 4"):
            self.assertIn(said, ran.stdout)
        self.assertIn("-DGRAPNEL_CUDA_ARCHITECTURES=90a\n", (self.tree / "cmake.log").read_text())

    def test_parts(self):
        self.assertEqual(self.check("bench", "vgg16").stdout, "compared vgg16\n")
        self.assertEqual(self.check("bench").stdout, "compared resnet18\n")
        self.assertEqual(self.check("test").stdout, "tests pass\n" + 2 * "tests on cuda pass\n")
        ran = self.check("everything")
        self.assertEqual(ran.returncode, 2)
        self.assertIn("tools/gpu_check.sh bench [MODEL]", ran.stderr)

    def test_a_part_that_fails_leaves_the_others(self):
        self.tool("build/gpu/tests/test_cuda", "[ -n \"$2\" ] || [ \"${1%=*}\" = -tc ] || { echo 1 failed; exit 1; }")
        ran = self.check()
        self.assertEqual(ran.returncode, 1)
        self.assertIn("1 failed\ngpu_check.sh: the tests fail, see build/gpu/logs\n", ran.stderr)
        self.assertIn("compared", ran.stdout)

    def test_launches_that_overlap_too_far(self):
        self.tool("build/gpu/tests/test_cuda", "[ \"$GRAPNEL_DEPENDENT_LAUNCHES\" = 0 ] || [ $# -gt 0 ]")
        self.check_refuses("test", "not with GRAPNEL_DEPENDENT_LAUNCHES=0", 1)

    def test_no_gpu_that_can_be_used(self):
        self.tool("build/gpu/tests/test_cuda", "echo 'skipped: no CUDA device'")
        self.check_refuses("test", "no CUDA device can be used")
        self.check_refuses("sanitize", "no CUDA device can be used")

    @unittest.skipIf(any(map(os.path.exists, ("/dev/nvidiactl", "/dev/dxg"))), "there is a GPU")
    def test_no_gpu(self):
        self.tool("bin/nvidia-smi", "exit 9")
        for part in ("test", "sanitize", "bench", "all"):
            self.check_refuses(part, "there is no NVIDIA GPU")

    def test_a_build_that_fails(self):
        self.tool("bin/cmake", "[ \"$1\" = -S ] || { echo an error; exit 1; }")
        self.check_refuses("test", "the build fails", 1)
        self.tool("bin/cmake", "exit 1")
        self.check_refuses("test", "cmake cannot set up the build")

    def test_sanitizers(self):
        self.tool("bin/compute-sanitizer", "[ $2 != racecheck ] || { echo a race; exit 1; }; echo ERROR SUMMARY: 0")
        self.check_refuses("sanitize", "racecheck: see the logs", 1)
        self.tool("bin/compute-sanitizer", "exit 124")
        self.assertEqual(self.check("sanitize").stdout.count("no verdict"), 4)
        (self.tree / "bin/compute-sanitizer").unlink()
        if run("bash", "-c", "PATH=$PATH:/usr/local/cuda/bin; command -v compute-sanitizer").returncode != 0:
            self.check_refuses("sanitize", "compute-sanitizer is missing")


if __name__ == "__main__":
    unittest.main()
