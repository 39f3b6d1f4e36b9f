"""Installs unpacked wheels into a prefix, as installers do: `install-wheels.py PREFIX SITE WHEEL…`.

Packages go to SITE, what a wheel keeps under `NAME.data` to its place, a script is written for each console script, and
modules are compiled (with the hash of their source, so that no time is in the result).
"""

import compileall
import configparser
import py_compile
import shutil
import sys
from pathlib import Path

SCRIPT = """#!/usr/bin/python3
import sys
from {module} import {first}
if __name__ == "__main__":
    sys.exit({function}())
"""


def copy(source, target):
    shutil.copytree(source, target, dirs_exist_ok=True, symlinks=True, copy_function=shutil.copyfile)


def install_data(data, prefix, site):
    places = {"purelib": site, "platlib": site, "data": prefix, "scripts": prefix / "bin", "headers": prefix / "include"}
    for folder in sorted(data.iterdir()):
        copy(folder, places[folder.name])
        if folder.name == "scripts":
            for script in sorted(folder.iterdir()):
                interpret(prefix / "bin" / script.name)


def interpret(script):
    """`#!python` stands for the interpreter that a wheel is installed for."""
    lines = script.read_bytes().split(b"\n")
    if lines[0].startswith(b"#!python"):
        lines[0] = b"#!/usr/bin/python3"
        script.write_bytes(b"\n".join(lines))
    script.chmod(0o755)


def console_scripts(wheel):
    for entry_points in sorted(wheel.glob("*.dist-info/entry_points.txt")):
        parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
        parser.optionxform = str
        parser.read_string(entry_points.read_text())
        for section in ("console_scripts", "gui_scripts"):
            if parser.has_section(section):
                yield from parser.items(section)


def main():
    prefix, site = Path(sys.argv[1]), Path(sys.argv[2])
    (prefix / "bin").mkdir(parents=True)
    site.mkdir(parents=True)
    for wheel in map(Path, sys.argv[3:]):
        for entry in sorted(wheel.iterdir()):
            if entry.name.endswith(".data"):
                install_data(entry, prefix, site)
            elif entry.is_dir():
                copy(entry, site / entry.name)
            else:
                shutil.copyfile(entry, site / entry.name)
        for name, target in console_scripts(wheel):
            module, _, function = target.split("[")[0].strip().partition(":")
            script = prefix / "bin" / name
            script.write_text(SCRIPT.format(module=module, first=function.split(".")[0], function=function))
            script.chmod(0o755)
    # Some packages carry files for other versions of Python, which do not compile.
    compileall.compile_dir(
        site, quiet=2, stripdir=str(prefix), prependdir="/usr/local",
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


main()
