"""Sweeps: one experiment over a grid or a sample of conditions and seeds, on one machine or on many.

A sweep file says what is computed (:mod:`~bench.sweeping.sweep_file`); each point of it is a pure function of
experiment, settings and seed (:mod:`~bench.sweeping.experiments`), computed by some engine
(:mod:`~bench.sweeping.local`, :mod:`~bench.sweeping.on_dask`); what comes back is stored, each point once, by the one
process that asked for it (:mod:`~bench.sweeping.store`).
"""
