# SPDX-License-Identifier: GPL-2.0-only
"""machines.toml, tests.toml and configuration fragments: mistakes in data must not hide a test."""

from __future__ import annotations

import dataclasses
import tempfile
import tomllib
import unittest
from pathlib import Path
from unittest import mock

import build
import tables
import settings
from tables import Test
from settings import Error

MACHINES = tables.all_machines()
# Those that run every test which names no machines.
ALL_ROUND = {name: item for name, item in MACHINES.items() if not item.suites
             and not item.config}


class Tables(unittest.TestCase):
    def read(self, text: str, kernel: str = "patched",
             machines: dict[str, tables.Machine] | None = None) -> list[Test]:
        with tempfile.TemporaryDirectory() as scratch:
            for name in tables.TESTS:
                (Path(scratch) / name).write_text(text if name == "tests.toml" else "")
            with mock.patch.object(settings, "HERE", Path(scratch)), \
                    mock.patch.object(settings, "KERNEL", kernel):
                return tables.all_tests(machines or ALL_ROUND)

    def test_the_real_ones(self) -> None:
        tests = tables.all_tests(MACHINES)
        self.assertLessEqual({"x86-amd", "x86-intel", "arm64-fwb", "arm64-nofwb"}, set(MACHINES))
        self.assertTrue(all(any(name in test.machines for test in tests) for name in MACHINES))

    def test_like(self) -> None:
        one, other = MACHINES["x86-intel"], MACHINES["x86-intel-nosnoop"]
        self.assertEqual((one.command, one.bochsrc, one.cmdline),
                         (other.command, other.bochsrc, other.cmdline))
        self.assertNotEqual(one.cpu, other.cpu)
        for values, said in (({"like": "b"}, "a: no machine b above it"),
                             ({**dataclasses.asdict(one), "config": "c"}, "a: unknown config c"),
                             ({**dataclasses.asdict(one), "bases": ["2.6"]},
                              "a: unknown base in ..2.6..")):
            with mock.patch.object(settings, "table", return_value={"a": values}), \
                    self.assertRaisesRegex(Error, said):
                tables.all_machines()

    def test_defaults(self) -> None:
        test, = self.read('[[test]]\nsuite = "kvm/a"\ntimeout = 5')
        self.assertEqual((test.program, test.args, test.ktap), ("kvm/a", [], True))
        self.assertEqual(test.machines, list(ALL_ROUND))

    def test_suites(self) -> None:
        machines = {**ALL_ROUND, "small": dataclasses.replace(
            MACHINES["arm64-fwb"], name="small", family=["small"],
            suites=["kvm/a"])}
        text = ('[[test]]\nsuite = "kvm/a"\n[[test]]\nsuite = "kvm/b"\n'
                '[[test]]\nsuite = "kvm/c"\nmachines = ["small"]')
        self.assertEqual([test.machines for test in self.read(text, machines=machines)],
                         [[*ALL_ROUND, "small"], list(ALL_ROUND), ["small"]])
        with self.assertRaisesRegex(Error, "small: there is no suite kvm/a"):
            self.read('[[test]]\nsuite = "kvm/b"', machines=machines)

    def like(self) -> dict[str, tables.Machine]:
        """A machine, one like it, and one like it with suites of its own."""
        one = dataclasses.replace(MACHINES["arm64-fwb"], name="one", family=["one"])
        return {"one": one, "two": dataclasses.replace(one, name="two", family=["two", "one"]),
                "few": dataclasses.replace(one, name="few", family=["few", "one"],
                                           suites=["kvm/a"])}

    def test_a_new_machine_is_one_entry(self) -> None:
        """What is like another one runs what that runs, and must read what that must read."""
        text = ('[[test]]\nsuite = "kvm/a"\nmachines = ["one"]\n[test.rows]\n'
                '"row" = { one = "WB" }\n"other" = { one = "WB", two = "WC" }\n'
                '"none" = { one = "WB", two = "" }\n'
                '[test.skips]\n"t" = { one = "no device" }\n'
                '[[test]]\nsuite = "kvm/b"\nmachines = ["one"]')
        first, second = self.read(text, machines=self.like())
        self.assertEqual((first.machines, second.machines), (["one", "two", "few"], ["one", "two"]))
        self.assertEqual(first.rows, {"row": {"one": "WB", "two": "WB", "few": "WB"},
                                      "other": {"one": "WB", "two": "WC", "few": "WB"},
                                      "none": {"one": "WB", "few": "WB"}})
        self.assertEqual(first.skips, {name: {"t": "no device"} for name in first.machines})
        self.assertEqual(second.skips, {"one": {}, "two": {}})

    def test_lacks(self) -> None:
        """A machine does not have these rows, whatever one that it is like must read."""
        machines = self.like()
        machines["two"].lacks = ["* 4K", "other*"]
        text = ('[[test]]\nsuite = "kvm/a"\nmachines = ["one"]\n[test.rows]\n'
                '"on 4K" = { one = "WB" }\n"on 64K" = { one = "WB" }\n"others" = { one = "WB" }')
        test, = self.read(text, machines=machines)
        self.assertEqual({row: list(wanted) for row, wanted in test.rows.items()},
                         {"on 4K": ["one", "few"], "on 64K": ["one", "two", "few"],
                          "others": ["one", "few"]})

    def test_who_is_named_goes_first(self) -> None:
        """Of two entries for a suite, a machine has the one that names it itself."""
        entry = '[[test]]\nsuite = "kvm/b"\nargs = ["{0}"]\nmachines = ["{0}"]\n'
        for names in (("one", "two"), ("two", "one")):
            machines = self.like()
            del machines["few"]
            tests = self.read("".join(map(entry.format, names)), machines=machines)
            self.assertEqual({test.args[0]: test.machines for test in tests},
                             {"one": ["one"], "two": ["two"]})

    def test_who_is_not_named_does_not_run(self) -> None:
        """An entry for a suite of a machine's list that names others only is not for it."""
        machines = self.like()
        tests = self.read('[[test]]\nsuite = "kvm/a"\n'
                          '[[test]]\nsuite = "kvm/a"\nmachines = ["two"]', machines=machines)
        self.assertEqual([test.machines for test in tests], [["one", "few"], ["two"]])

    def test_the_base_skips_what_it_likes(self) -> None:
        text = '[[test]]\nsuite = "kvm/a"\nskips."t" = { x86-amd = "no device" }'
        self.assertEqual(self.read(text)[0].skips["x86-amd"], {"t": "no device"})
        self.assertEqual(self.read(text, "base")[0].skips, {})

    def test_bench_and_compat_are_not_inherited(self) -> None:
        machine = {**dataclasses.asdict(MACHINES["x86-amd"]), "compat": True, "bench": ["kvm/b"]}
        del machine["name"], machine["family"]
        with mock.patch.object(settings, "table", return_value={"a": machine,
                                                                "b": {"like": "a"}}):
            found = tables.all_machines()
        self.assertEqual((found["b"].compat, found["b"].bench), (False, []))
        self.assertEqual((found["a"].compat, found["b"].boot), (True, found["a"].boot))

    def test_mistakes(self) -> None:
        for text, said in (
                ('suite = "a"\ntimeout = 5\ntimeuot = 6', "unknown field timeuot"),
                ('timeout = 5', "suite"),
                ('suite = "a"\nargs = ["-v 1"]', "without spaces"),
                ('suite = "a"\nargs = [1]', "without spaces"),
                ('suite = "a"\ntimeout = 5\nmachines = ["vax"]', "unknown machine vax"),
                ('suite = "a"\ntimeout = 5\nrows.r.vax = "WB"', "unknown machine vax"),
                ('suite = "a"\ntimeout = 5\nrows.r.base.vax = "WB"', "unknown machine vax"),
                ('suite = "a"\ntimeout = 5\n[[test]]\nsuite = "a"\ntimeout = 5', "is there twice"),
                ('suite = "boot"\ntimeout = 5', "reserved"),
                ('suite = ', "tests.toml")):
            with self.subTest(text), self.assertRaisesRegex(Error, said):
                self.read("[[test]]\n" + text)

    def test_expectations_by_kernel(self) -> None:
        text = ('[[test]]\nsuite = "a"\ntimeout = 5\n[test.rows."guest WC"]\nx86-intel = "WC"\n'
                'x86-amd = "WC"\nbase.x86-intel = "forced"')
        self.assertEqual(self.read(text)[0].rows["guest WC"],
                         {"x86-intel": "WC", "x86-amd": "WC"})
        self.assertEqual(self.read(text, "base")[0].rows["guest WC"],
                         {"x86-intel": "forced", "x86-amd": "WC"})

    def test_expectations_by_base(self) -> None:
        """What one base shows otherwise is in a table of its own, for rows, skips and failures."""
        first, other = list(settings.BASES)
        text = ('[[test]]\nsuite = "a"\n'
                f'fails = {{ every = "e", one."{first}" = "f", mended.base."{other}" = "m" }}\n'
                f'skips."t" = {{ x86-amd = "no device", "{other}" = {{ x86-amd = "" }} }}\n'
                'rows.r = { x86-amd = "WC", x86-intel = "WC", base.x86-amd = "UC", '
                f'"{other}" = {{ x86-intel = "WB", x86-amd = "WB" }} }}')
        for base, kernel, rows, skips, fails in (
                (first, "patched", ("WC", "WC"), {"t": "no device"}, {"every": "e", "one": "f"}),
                (other, "patched", ("WB", "WB"), {}, {"every": "e"}),
                (other, "base", ("UC", "WB"), None, {"every": "e", "mended": "m"})):
            with mock.patch.object(settings, "BASE", base):
                test, = self.read(text, kernel)
            found = test.rows["r"]
            self.assertEqual((found["x86-amd"], found["x86-intel"]), rows)
            self.assertEqual(test.skips.get("x86-amd"), skips)
            self.assertEqual(test.fails, fails)
        with self.assertRaisesRegex(Error, "unknown machine vax"):
            self.read(f'[[test]]\nsuite = "a"\nrows.r."{other}".vax = "WB"')

    def test_base_has_no_such_test(self) -> None:
        text = '[[test]]\nsuite = "a"\n[[test]]\nsuite = "b"\nbase = false'
        for kernel, suites in (("patched", ["a", "b"]), ("base", ["a"])):
            with mock.patch.object(tables, "all_machines", return_value=ALL_ROUND), \
                    mock.patch.object(settings, "table", lambda name: tomllib.loads(
                        text if name == "tests.toml" else "")), \
                    mock.patch.object(settings, "KERNEL", kernel), \
                    mock.patch.object(settings, "MACHINE", ""), \
                    mock.patch.object(settings, "TEST", ""):
                self.assertEqual([test.suite for test in tables.select()[1]], suites)

    def test_config(self) -> None:
        """A machine runs with its own kernel configuration only; make list shows all."""
        for config, there, absent in (("", "x86-intel", "x86-amd-vmm"),
                                      ("", "arm64-64k", "arm64-vmm"),
                                      ("debug", "x86-amd", "x86-intel"),
                                      ("debug", "arm64-nofwb", "arm64-64k"),
                                      ("coverage", "x86-intel", "x86-amd-vmm"),
                                      ("vmm", "arm64-vmm", "arm64-nofwb"),
                                      ("vmm", "arm64-vmm", "arm64-64k")):
            with self.subTest(config), mock.patch.object(settings, "CONFIG", config):
                machines, _ = tables.select()
                self.assertIn(there, machines)
                self.assertNotIn(absent, machines)
                self.assertLessEqual({there, absent}, set(tables.select(every=True)[0]))

    def test_kernels(self) -> None:
        """CONFIG= is on top of the matrix's own configuration, that of a machine in its place."""
        for config, name, kernel in (("", "arm64-nofwb", ("arm64", "")),
                                     ("debug", "arm64-nofwb", ("arm64", "debug")),
                                     ("vmm", "arm64-vmm", ("arm64", "vmm")),
                                     ("", "arm64-64k", ("arm64", "small-64k"))):
            with self.subTest(name), mock.patch.object(settings, "CONFIG", config):
                self.assertEqual(MACHINES[name].kernel, kernel)
        with mock.patch.object(build, "KERNEL", "patched"), \
                mock.patch.object(settings, "BASE", "6.12"):
            self.assertEqual([path.stem for path in build.fragments("arm64", "small-64k")],
                             ["patched", "small", "64k"])
            self.assertEqual([path.stem for path in build.fragments("arm64", "vmm")],
                             ["common", "arm64", "arm64_6.12", "patched", "vmm"])
        with mock.patch.object(build, "KERNEL", "base"), \
                mock.patch.object(settings, "BASE", "7.3"):
            self.assertEqual([path.stem for path in build.fragments("arm64", "")],
                             ["common", "arm64"])
            self.assertEqual(build.objects("arm64", "small-64k").parts[-2:],
                             ("base-small-64k", "arm64"))

    def test_guest_programs(self) -> None:
        text = '[[test]]\nsuite = "kvm/a"\nguest = ["memtype/b"]\nmachines = ["x86-amd"]'
        with mock.patch.object(tables, "all_tests", return_value=self.read(text)):
            self.assertEqual(tables.programs("x86_64"), [Path("kvm/a"), Path("memtype/b")])
            self.assertEqual(tables.programs("arm64"), [])

    def test_filters(self) -> None:
        def names(machine: str, test: str) -> tuple[list[str], list[str]]:
            with mock.patch.object(settings, "MACHINE", machine), \
                    mock.patch.object(settings, "BASE", "6.12"), \
                    mock.patch.object(settings, "TEST", test):
                machines, tests = tables.select()
                return list(machines), [item.suite for item in tests]

        self.assertEqual(names("arm64-*", "kunit"),
                         (["arm64-fwb", "arm64-nofwb", "arm64-mte", "arm64-dic", "arm64-nvhe",
                           "arm64-16k", "arm64-64k"], ["kunit"]))
        self.assertIn("arm64-64k", names("", "kunit")[0])
        self.assertNotIn("arm64-16k", names("", "kunit")[0])
        self.assertEqual(names("x86-amd, arm64-fwb", "k?nit")[0], ["x86-amd", "arm64-fwb"])
        with self.assertRaisesRegex(Error, "no test matches .*see make list"):
            names("vax", "")

    def test_other_command(self) -> None:
        """What only another CONFIG= runs: say with which command."""
        for config, machine, test, said in (
                ("", "*", "memtype/qemu_test", "TEST=memtype/qemu_test .it takes make vmm.$"),
                ("debug", "x86-intel", "*", "CONFIG=debug .it takes make matrix.$"),
                ("debug", "arm64-64k", "*", "CONFIG=debug .it takes make matrix.$"),
                ("vmm", "x86-amd", "*", "CONFIG=vmm .it takes make matrix.$"),
                ("", "arm64-pkvm", "*", "TEST=\\* .it takes make matrix BASE=7.3.$")):
            with self.subTest(machine), mock.patch.object(settings, "BASE", "6.12"), \
                    mock.patch.object(settings, "CONFIG", config), \
                    mock.patch.object(settings, "MACHINE", machine), \
                    mock.patch.object(settings, "TEST", test), \
                    self.assertRaisesRegex(Error, said):
                tables.select()


class Options(unittest.TestCase):
    """A configuration option that does not survive must be seen."""

    def lost(self, fragment: str, config: str) -> list[str]:
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "fragment"
            path.write_text(fragment)
            return build.lost_options(build.wanted_options([path]), config)

    def test_options(self) -> None:
        config = 'CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_NAME="x y"\n'
        self.assertEqual(self.lost('# a comment\nCONFIG_A=y\nCONFIG_NAME="x y"\n', config), [])
        self.assertEqual(self.lost("CONFIG_B=y\n", config), ["CONFIG_B=y"])
        self.assertEqual(self.lost("CONFIG_C=y\n", config), ["CONFIG_C=y"])
        self.assertEqual(self.lost("CONFIG_A=m\n", config), ["CONFIG_A=m"])
        self.assertEqual(self.lost("# CONFIG_C is not set\n", config), [])
        self.assertEqual(self.lost("# CONFIG_A is not set\n", config), ["# CONFIG_A is not set"])


if __name__ == "__main__":
    unittest.main()
