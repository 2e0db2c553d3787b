"""tools/bench/compare without any peer: what is read off results, what tables and plots say, what is refused."""
import contextlib
import io
import sys
import tempfile
import unittest
import xml.etree.ElementTree as xml
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools/bench"))
sys.dont_write_bytecode = True
from compare import contest, plot, results, table  # noqa: E402
from compare import __main__ as program  # noqa: E402
from compare.common import Failure  # noqa: E402
from compare.contest import Setting  # noqa: E402
from compare.contestants import peers_of  # noqa: E402

SETUP = {"cpu": "a CPU", "cores": 2, "weights": "random", "packages": {"torch": {"version": "2.0", "mib": 100.0}},
         "program": {"version": "0.1.0 (abc)", "mib": 5.0}}
SETTING = Setting("resnet18", "infer", 2, 224, 1, None, None, None)
START = SETTING._replace(task="start", batch=1)


def rounds(*turns):
    names = "Grapnel", "PyTorch, NCHW", "PyTorch, channels last", "ncnn"
    return {"rounds": [dict(zip(names, ([ms] for ms in turn))) for turn in turns],
            "peak_mib": {"Grapnel": 50.0, "ncnn": 100.0}, "libraries_mib": {"ncnn": 20.0},
            "absent": {"OpenVINO": "no module | of that name"}}


def measured():
    found = {"setup": SETUP, "cases": {}, "errors": {
        "resnet18, 224x224": {"Grapnel": {"logits": 2e-7, "top1": True}, "ncnn": {"logits": 1.0, "top1": False}}}}
    results.add(found, SETTING, rounds((10, 30, 20, 9), (20, 40, 30, 16)))
    return found


def started(*times, imported):
    """A cold start of Grapnel and one peer."""
    return {"rounds": [{"Grapnel": [ours], "PyTorch, NCHW": [theirs]} for ours, theirs in times],
            "imported_ms": {"PyTorch, NCHW": imported}, "peak_mib": {}, "libraries_mib": {},
            "absent": {"ncnn": "no such file"}}


class Results(unittest.TestCase):
    def test_ratios_are_by_round(self):
        (case,) = results.cases(measured())
        self.assertEqual(case.grapnel.median, 15)
        ratios = {row.name: row.ratios for row in case.peers}
        self.assertEqual(ratios, {"PyTorch, NCHW": [3, 2], "PyTorch, channels last": [2, 1.5], "ncnn": [0.9, 0.8]})
        self.assertEqual({peer: row.name for peer, row in case.best.items()},
                         {"PyTorch": "PyTorch, channels last", "ncnn": "ncnn"})

    def test_a_later_run_adds_rounds(self):
        found = measured()
        results.add(found, SETTING, rounds((10, 10, 10, 10)))
        (case,) = results.cases(found)
        self.assertEqual(case.peers[0].ratios, [3, 2, 1])

    def test_a_round_that_a_peer_missed_does_not_count_for_it(self):
        found = measured()
        results.add(found, SETTING, rounds((10, 10)))
        (case,) = results.cases(found)
        self.assertEqual([len(row.ratios) for row in case.peers], [3, 2, 2])

    def test_a_later_cold_start_adds_what_came_after_the_imports(self):
        found = measured()
        results.add(found, START, started((50, 1000), (50, 1500), imported=[300, 400]))
        results.add(found, START, started((50, 2000), imported=[800]))
        infer, start = results.cases(found)
        self.assertEqual(start.peers[0].imported_ms, [300, 400, 800])
        self.assertEqual(start.peers[0].ratios, [20, 30, 40])
        self.assertEqual([row.imported_ms for row in (start.grapnel, infer.grapnel)], [[], []])

    def test_only_results_of_the_same_setup_are_merged(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "results.json"
            self.assertEqual(results.load(path, SETUP)["cases"], {})
            results.save(path, measured())
            self.assertEqual(results.load(path, SETUP), measured())
            with self.assertRaisesRegex(Failure, "of other cores"):
                results.load(path, {**SETUP, "cores": 4})
            path.write_text("[1]")
            with self.assertRaisesRegex(Failure, "not a file of results"):
                results.load(path, SETUP)

    def test_quantiles_are_interpolated(self):
        self.assertEqual([results.quantile([4, 1, 3, 2], q) for q in (0, 0.5, 0.9, 1)], [1, 2.5, 3.7, 4])


class Reports(unittest.TestCase):
    def test_the_table_tells_losses_errors_and_who_is_absent(self):
        text = table.to_markdown(measured())
        self.assertIn("| resnet18, infer, batch 2, 1 thread | ncnn |  | 0.85 (0.81 to 0.89) | 0.50 | **Grapnel loses** |",
                      text)
        self.assertIn("| PyTorch | channels last | 1.75 (1.55 to 1.95) |  |  |", text)
        self.assertIn("absent: no module \\| of that name", text)
        self.assertIn("| ncnn | 1.0e+00 | **no** |", text)

    def test_a_cold_start_has_its_own_columns(self):
        found = measured()
        results.add(found, START, started((50, 1000), (50, 1500), imported=[300, 400]))
        lines = table.to_markdown(found).splitlines()
        first = lines.index("### resnet18, cold start to the first logits, 1 thread, 224x224, 2 rounds") + 2
        self.assertIn("after imports", lines[first])
        self.assertEqual(lines[first + 2:first + 5], [
            "| **Grapnel** | 50.00 | 50.00 | 50.00 |  |  |",
            "| **PyTorch, NCHW** | 1250 | 1050 | 1450 | 25.00 (21.00 to 29.00) | 350 |",
            "| ncnn | absent: no such file | | | | |"])
        self.assertEqual({line.count("|") for line in lines[first:first + 5]}, {7})

    def test_errors_of_grapnel_are_judged_by_the_gates_and_no_others(self):
        found = measured()
        error = {"logits": 2e-5, "top1": True, "input_gradient": 1.1e-5, "step_median": 1e-6, "step": 1e-3}
        found["errors"] = {"a net": {"Grapnel": {**error, "layers": {"conv1": [5e-6, 4e-6], "fc": [5.1e-6, 6e-6]}},
                                     "ncnn": {"logits": 1.0, "top1": True}}}
        text = table.to_markdown(found)
        self.assertIn("| a net | Grapnel | 2.0e-05, within | yes | **1.1e-05, outside** | 1.0e-06, within | "
                      "**1.0e-03, outside** |", text)
        self.assertIn("| a net | ncnn | 1.0e+00 | yes |  |  |  |", text)
        self.assertIn("| a net | Grapnel | PyTorch |", text)
        self.assertIn("| conv1 | 5.0e-06, within | 4.0e-06 |", text)
        self.assertIn("| fc | **5.1e-06, outside** | 6.0e-06 |", text)

    def test_the_plot_has_a_bar_for_each_and_shows_losses_in_their_colour(self):
        root = xml.fromstring(plot.to_svg(measured()))
        colours = [bar.get("fill") for bar in root.iter("{http://www.w3.org/2000/svg}rect")][4:]  # page and legend
        self.assertEqual(colours, [plot._GRAPNEL, plot._SLOWER, plot._FASTER])


class ColdStart(unittest.TestCase):
    """With scripts in place of the program and of Python, which note who was called."""

    def measure(self, grapnel, python):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for file, script in (("grapnel", grapnel), ("python", python)):
                (folder / file).write_text(f"#!/bin/sh\necho {file} >> {folder}/calls\n{script}\n")
                (folder / file).chmod(0o755)
            setting = START._replace(folder=folder, program=folder / "grapnel", python=folder / "python")
            result = contest.measure_start(setting, peers_of("start", False)[:1], SimpleNamespace(rounds=2))
            return result, (folder / "calls").read_text().split()

    def test_turns_alternate_and_the_first_is_not_counted(self):
        result, calls = self.measure("echo '{}'", """echo '{"imported_ms": 7}'""")
        self.assertEqual(calls, ["grapnel", "python", "python", "grapnel", "grapnel", "python"])
        self.assertEqual([sorted(times) for times in result["rounds"]], [["Grapnel", "PyTorch, NCHW"]] * 2)
        self.assertEqual(result["imported_ms"], {"PyTorch, NCHW": [7, 7]})

    def test_a_peer_that_fails_is_absent_and_grapnel_is_not(self):
        for script in ("""echo '{"absent": "broken"}'""", "echo broken >&2; exit 3"):
            result, calls = self.measure("echo '{}'", script)
            self.assertRegex(result["absent"]["PyTorch, NCHW"], "broken")
            self.assertEqual([sorted(times) for times in result["rounds"]], [["Grapnel"]] * 2)
            self.assertEqual(calls.count("python"), 1)
        with self.assertRaisesRegex(Failure, "broken"):
            self.measure("echo broken >&2; exit 3", "echo '{}'")


class Options(unittest.TestCase):
    def test_a_cold_start_is_among_the_tasks_unless_others_are_asked_for(self):
        self.assertIn("start", program.parse_options([]).tasks)
        self.assertEqual(program.parse_options(["--tasks", "start"]).tasks, ["start"])

    def test_what_is_wrong_is_one_line_and_code_2(self):
        for arguments, part in ((["--nets", "alexnet"], "alexnet"), (["--threads", "1,0"], "'0'"),
                                (["--tasks", ""], "there are infer"), (["--bogus"], "--help"),
                                (["--weights", "/nowhere"], "get_weights.sh"),
                                (["--grapnel", "/nowhere", "--out", tempfile.gettempdir()], "no such program")):
            with self.subTest(arguments), contextlib.redirect_stderr(io.StringIO()) as said:
                sys.argv = ["compare", *arguments]
                self.assertEqual(program.main(), 2)
                self.assertRegex(said.getvalue(), rf"\Acompare.sh: [^\n]*{part}[^\n]*\n\Z")


if __name__ == "__main__":
    unittest.main()
