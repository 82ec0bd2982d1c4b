"""Faults on purpose: what kills, full disks, damaged and hostile files do to this program. See docs/faults.md."""
