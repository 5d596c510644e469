"""Stress tests of the service, measured: `python -m benchmarks.stress`. One module a test.

Each test starts a service of its own on a free port of the loopback interface, with a database that goes away.
"""
