"""Reads what checkov found in rendered overlays, and holds it against the exceptions: what is found and is no exception
fails, and so does an exception that nothing needs any more.

    policy.py EXCEPTIONS REPORT      EXCEPTIONS: lines of check, overlay/resource (a pattern of the shell), and the reason
"""

import json
import sys
from fnmatch import fnmatchcase
from pathlib import Path


def exceptions(path):
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        parts = line.split(None, 2)
        if len(parts) < 3:
            sys.exit(f"{path}:{number}: an exception is a check, a resource and a reason")
        yield number, parts[0], parts[1]


def main():
    allowed = list(exceptions(sys.argv[1]))
    used, failed, excepted = set(), False, 0
    report = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    if not report.get("summary", {}).get("passed"):
        sys.exit("checkov has checked nothing")
    for finding in report["results"]["failed_checks"]:
        resource = f"{Path(finding['file_path']).stem}/{finding['resource']}"
        fitting = {n for n, check, pattern in allowed if check == finding["check_id"] and fnmatchcase(resource, pattern)}
        used |= fitting
        excepted += bool(fitting)
        if not fitting:
            print(f"    {finding['check_id']} {resource}: {finding['check_name']}")
            failed = True
    print(f"    {report['summary']['passed']} checks hold, {excepted} findings are exceptions")
    for number, check, pattern in allowed:
        if number not in used:
            print(f"    {sys.argv[1]}:{number}: nothing needs the exception {check} {pattern} any more")
            failed = True
    return failed


sys.exit(main())
