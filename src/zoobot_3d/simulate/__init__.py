"""A simulated survey in the formats of the real archives, and a loopback server with real faults.

For tests, benchmarks, the demo and the command line; the rest of the package must never import it.

Public: `survey.simulate_survey`, `archive.Archive`, `hosts.simulate_in_hosts`.
"""
