"""tools/bench/compare without any peer: what is read off results, what tables and plots say, what is refused."""
import contextlib
import io
import sys
import tempfile
import unittest
import xml.etree.ElementTree as xml
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools/bench"))
sys.dont_write_bytecode = True
from compare import plot, results, table  # noqa: E402
from compare import __main__ as program  # noqa: E402
from compare.common import Failure  # noqa: E402
from compare.contest import Setting  # noqa: E402

SETUP = {"cpu": "a CPU", "cores": 2, "weights": "random", "packages": {"torch": {"version": "2.0", "mib": 100.0}},
         "program": {"version": "0.1.0 (abc)", "mib": 5.0}}
SETTING = Setting("resnet18", "infer", 2, 224, 1, None, None, None)


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

    def test_the_plot_has_a_bar_for_each_and_shows_losses_in_their_colour(self):
        root = xml.fromstring(plot.to_svg(measured()))
        colours = [bar.get("fill") for bar in root.iter("{http://www.w3.org/2000/svg}rect")][4:]  # page and legend
        self.assertEqual(colours, [plot._GRAPNEL, plot._SLOWER, plot._FASTER])


class Options(unittest.TestCase):
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
