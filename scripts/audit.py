"""Known vulnerabilities of the installed packages, as pip-audit finds them: `make audit`.

Exit status 1 if there are any. Packages that could not be looked up (no network, no such release on PyPI) are counted
and said to be unknown, not safe; that alone is no failure, so that a build without a network goes on.

    python scripts/audit.py PIP_AUDIT SITE_PACKAGES
"""

import json
import subprocess
import sys
from typing import Any


def found(pip_audit: str, packages: str) -> list[dict[str, Any]] | None:
    """What pip-audit says of each package in a folder; None if it could not ask."""
    command = [pip_audit, "--path", packages, "--format", "json", "--progress-spinner", "off", "--timeout", "20"]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        entries: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, LookupError):
        sys.stderr.write(f"{done.stderr.strip().splitlines()[-1:] or 'pip-audit said nothing'}\n")
        return None
    return entries


def main(pip_audit: str, packages: str) -> int:
    """Print one line a vulnerability and one in all."""
    entries = found(pip_audit, packages)
    if entries is None:
        print("vulnerabilities: not looked up, the database cannot be reached")
        return 0
    unknown = [entry["name"] for entry in entries if "skip_reason" in entry]
    known = [(entry, hole) for entry in entries for hole in entry.get("vulns", [])]
    for entry, hole in known:
        fixed = ", ".join(hole["fix_versions"]) or "no version"
        print(f"{entry['name']} {entry['version']}: {hole['id']}, fixed in {fixed}")
    looked_up = len(entries) - len(unknown)
    print(f"vulnerabilities: {len(known)} in {looked_up} packages that were looked up; {len(unknown)} unknown")
    return 1 if known else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
