import numpy as np
from tests.training.conftest import *
from training.evaluate import simulate
from training.export import CALIBRATION_SEED
from training.calibrate import fit_scale
def test_q(exported, drawn):
    for name, labels in (("5", simulate(exported.engine, drawn[0], 5, 4).potentials.sum(0).argmax(-1)), ("99", simulate(exported.engine, drawn[0], CALIBRATION_SEED, 4).potentials.sum(0).argmax(-1))):
        labels[::4] = drawn[1][::4]
        e = simulate(exported.engine, drawn[0], CALIBRATION_SEED, 4).potentials.cumsum(0) * exported.card.potential_scale
        print(name, [fit_scale(x, labels) for x in e], np.bincount(labels, minlength=10))
