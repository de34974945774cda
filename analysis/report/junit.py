"""report.junit.xml: the gates as tests, in the dialect that Jenkins, GitLab and GitHub's actions read."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from indexscope.analysis.names import plain
from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.verdict import verdict
from indexscope.errors import one_line


def build_junit(report: ReportInput) -> str:
    """One test suite for the study, with one test case for each gate and candidate.

    A gate that holds passes, one that does not (or could not look) is a failure whose message is the reason, and one
    that was not evaluated is skipped. Times are 0: a gate is looked up, not run. Elements and attributes are those that
    the common schemas share (Jenkins' junit-10.xsd, GitLab's documentation of unit test reports): testsuites,
    testsuite, testcase, failure, skipped, system-out.

    Returns:
        XML with its declaration; the same report gives the same bytes.
    """
    study = plain(report.study)
    rows = list(report.gates.iter_rows(named=True))
    counts = {
        "tests": len(rows),
        "failures": sum(row["passed"] is False for row in rows),
        "errors": 0,
        "skipped": sum(row["passed"] is None for row in rows),
        "time": 0,
    }
    attributes = {name: str(value) for name, value in counts.items()}
    # junit-10.xsd counts what was skipped in each suite, not over all.
    over_all = {name: value for name, value in attributes.items() if name != "skipped"}
    root = ElementTree.Element("testsuites", {"name": "indexscope", **over_all})
    suite = ElementTree.SubElement(root, "testsuite", {"name": study, **attributes})
    for row in rows:
        where = plain(row["candidate"]) if row["candidate"] is not None else study
        case = ElementTree.SubElement(suite, "testcase", {"name": plain(row["name"]), "classname": where, "time": "0"})
        rule = plain(row["rule"])
        if row["passed"] is None:
            ElementTree.SubElement(case, "skipped", {"message": "not evaluated"})
        elif not row["passed"]:
            reason = one_line(row["reason"] or "") or f"value {row['value']}"
            failure = ElementTree.SubElement(case, "failure", {"message": f"{rule}: {reason}", "type": "gate"})
            layer = "" if row["layer"] is None else f"\nlayer: {row['layer']}"
            failure.text = f"gate: {plain(row['name'])}\nrule: {rule}\nvalue: {row['value']}{layer}\n{reason}"
    words = verdict(report)
    told = [words.headline, *(warning.text for warning in words.warnings)]
    ElementTree.SubElement(suite, "system-out").text = "\n".join(told)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
