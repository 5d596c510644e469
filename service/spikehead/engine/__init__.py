"""Engines: they simulate a network step by step. One protocol, two implementations, identical spikes."""
