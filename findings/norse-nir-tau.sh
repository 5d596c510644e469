#!/usr/bin/env bash
# norse 1.1.0 writes a membrane's time constant to NIR a thousand times too small, unless it is told otherwise.
#
# Versions: norse 1.1.0, nir 1.0.8, torch 2.13.0, Python 3.11 (2026-11-28).
# NIR gives `tau` of a LIF node in seconds (its equation is tau dv/dt = ...). norse's `to_nir` has an argument `dt`, the length
# of a step, whose default is 0.001, and writes dt / tau_mem_inv: seconds times seconds. A membrane of 10 ms
# (tau_mem_inv = 100 a second) becomes tau = 1e-05. `to_nir(..., dt=1.0)` writes 0.01, whatever the length of a step is.
# norse's own `from_nir` takes tau for seconds, as NIR does, so even a round trip through norse makes the membrane a thousand
# times faster: tau_mem_inv = 100 comes back as 100000. The size of the batch, too, becomes part of the input's shape, beside a
# first layer that is told its shape without it.
# Seen:
#   default: tau = 1e-05, back in norse tau_mem_inv = 100000
#   dt=1.0: tau = 0.01, back in norse tau_mem_inv = 100
#   input of the graph: [4, 2], input of its first layer: [2]
# Run: bash findings/norse-nir-tau.sh (installs into a temporary folder; a few minutes). Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install torch==2.13.0 norse==1.1.0 nir==1.0.8
cat >"$folder/expected" <<'SEEN'
default: tau = 1e-05, back in norse tau_mem_inv = 100000
dt=1.0: tau = 0.01, back in norse tau_mem_inv = 100
input of the graph: [4, 2], input of its first layer: [2]
SEEN
cat >"$folder/export.py" <<'PROGRAM'
import torch
import norse.torch as norse

membrane = norse.LIFBoxCell(norse.LIFBoxParameters(tau_mem_inv=torch.tensor(100.0)))
network = norse.SequentialState(torch.nn.Linear(2, 3), membrane)
batch = torch.ones(4, 2)


def exported(**options):
    nodes = norse.to_nir(network, batch, **options).nodes
    tau = [float(node.tau) for node in nodes.values() if type(node).__name__ == "LIF"]
    return nodes, tau[0]


def imported(**options):
    again = norse.from_nir(norse.to_nir(network, batch, **options))
    return [float(module.p.tau_mem_inv) for module in again.modules() if hasattr(module, "p")][0]


nodes, tau = exported()
print(f"default: tau = {tau:.6g}, back in norse tau_mem_inv = {imported():.6g}")
_, tau = exported(dt=1.0)
print(f"dt=1.0: tau = {tau:.6g}, back in norse tau_mem_inv = {imported(dt=1.0):.6g}")
first = next(node for name, node in nodes.items() if name == "0")
shape = nodes["input"].input_type["input"].tolist()
print(f"input of the graph: {shape}, input of its first layer: {first.input_type['input'].tolist()}")
PROGRAM
"$folder/venv/bin/python" -W ignore "$folder/export.py" | tee "$folder/seen"
diff "$folder/expected" "$folder/seen"
