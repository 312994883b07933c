"""The fault campaign: faults injected on the wires of the simulated bench, counted.

``python -m tests.faults`` runs all of it; ``tests/faults/test_campaign.py`` runs a short part of it, and proves of each
part that it would notice.
"""
