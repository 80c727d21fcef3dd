"""A small, real Butler site and the Rucio events that announce its files.

    world  --> repositories, files, events, and what must come of them (expected.json)

Standard library and ``lsst.daf.butler`` only. Everything follows from the options and the seed.
"""
