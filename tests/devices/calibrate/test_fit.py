"""Fits recover what the measurements were made of."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from tinysearch.core.errors import InputError
from tinysearch.devices.calibrate.fit import confidence, fit_error, fit_latency, held_out, predict, relative_nnls
from tinysearch.devices.calibrate.jobs import CLASSES
from tinysearch.devices.calibrate.results import Sample
from tinysearch.devices.latency.seconds import step_seconds
from tinysearch.devices.profile import load_device
from tinysearch.devices.profile.kernels import COARSE, Kernel, class_keys
from tinysearch.devices.profile.model import WorkingSet
from tinysearch.devices.profile.quantities import Sourced
from tinysearch.devices.step.peak import peak_bytes
from tinysearch.devices.step.saved import saved_bytes
from tinysearch.devices.working_set import working_set_bytes
from tinysearch.spaces.backbones.catalogue import load_backbone
from tinysearch.spaces.space import UpdateSpace
from tinysearch.spaces.trace import trace


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.floats(0, 5), min_size=3, max_size=3).filter(lambda x: max(x) > 0.1),
    st.integers(0, 10_000),
    st.integers(0, 4),
)
def test_nnls_recovers_coefficients_in_spite_of_outliers(truth, seed, late):
    rng = np.random.default_rng(seed)
    matrix = rng.uniform(0.1, 1.0, (60, 3)) * [1.0, 1e6, 1e-6]
    coefficients = np.array(truth) / [1.0, 1e6, 1e-6]
    target = matrix @ coefficients
    target[:late] *= 3
    found = relative_nnls(matrix, target)
    assert (found >= 0).all()
    np.testing.assert_allclose(matrix[late:] @ found, target[late:], rtol=0.05 if late else 1e-6)


@pytest.fixture(scope="module")
def device():
    """A device whose small and large maps run at different speeds, and whose steps cost more than their rows."""
    base = load_device("rpi4")
    latency = base.latency
    phases = {}
    for number, phase in enumerate(("forward", "dx", "dw")):
        kernels = {
            key: Kernel(overhead=1e-5 * (n + number + 1), macs=1e9 * (n + 1), bytes=1e9 / (number + 1), source="-")
            for n, key in enumerate(COARSE)
        }
        kernels["pointwise-k1-s1-m1"] = Kernel(overhead=2e-5, macs=2e8, source="-")
        phases[phase] = kernels
    return base.model_copy(
        update={
            "latency": latency.model_copy(
                update={
                    **phases,
                    "forward_scale": Sourced(value=1.2, source="-"),
                    "backward_scale": Sourced(value=0.8, source="-"),
                    "update": Kernel(overhead=1e-5, bytes=1e9, source="-"),
                    "constant": Sourced(value=1e-3, source="-"),
                }
            )
        }
    )


def rows_alone(device):
    """The same device with nothing but rows in a step."""
    one, none = Sourced(value=1.0, source="-"), Sourced(value=0.0, source="-")
    alone = {"forward_scale": one, "backward_scale": one, "constant": none, "update": Kernel(overhead=0.0, source="-")}
    return device.model_copy(update={"latency": device.latency.model_copy(update=alone)})


def synthetic(device, networks, policies, seed):
    """Steps as that device would take, row by row."""
    alone = rows_alone(device)
    found = []
    for number, (width, size) in enumerate(networks):
        known = trace(load_backbone(f"mobilenetv2-w{width}", num_classes=CLASSES), (3, size, size))
        table = UpdateSpace(known).table(UpdateSpace(known).sample(policies, seed + number))
        for n in range(policies):
            one = table[n : n + 1]
            terms = step_seconds(one, alone, device.batch, device.optimizer).terms
            forward = terms[0][0][0] * terms[0][1]
            backward = sum((runs[0] * seconds for runs, seconds in terms[1:]), np.zeros(len(known.rows)))
            found.append(
                Sample(
                    table=one,
                    network=number,
                    seconds=float(step_seconds(one, device, device.batch, device.optimizer).total[0]),
                    forward={row.name: float(s) for row, s in zip(known.rows, forward, strict=True) if s},
                    backward={row.name: float(s) for row, s in zip(known.rows, backward, strict=True) if s},
                )
            )
    return found


@pytest.fixture(scope="module")
def samples(device):
    return synthetic(device, [(0.2, 32), (0.35, 64), (0.5, 48), (0.3, 96), (0.6, 32), (0.25, 80)], 4, 0)


def test_a_device_made_of_kernels_is_found_again(device, samples):
    latency = fit_latency(samples, device, "test")
    fitted = device.model_copy(update={"latency": latency})
    unseen = synthetic(device, [(0.42, 56), (0.27, 72)], 4, 100)
    np.testing.assert_allclose(predict(unseen, fitted), [one.seconds for one in unseen], rtol=0.06)
    assert latency.forward["pointwise-k1-s1-m1"].macs == pytest.approx(2e8, rel=0.1)
    assert set(COARSE) <= set(latency.forward)
    assert latency.valid.batch == (device.batch, device.batch)
    assert not latency.forward["pointwise"].assumed
    # MobileNetV2 has no dense convolution but its stem, from which it is known.
    assert latency.forward["dense"].source == "test"


def test_networks_are_held_out_whole(device, samples):
    predicted, measured = held_out(samples, device)
    assert len(predicted) == len(samples)
    assert sorted(measured) == sorted(one.seconds for one in samples)
    error = fit_error(predicted, measured, of="x", source="y", repeatability=None)
    assert error.mape < 10


def test_too_few_steps_are_refused(device, samples):
    with pytest.raises(InputError, match="3 steps were measured"):
        fit_latency(samples[:3], device, "test")


@settings(deadline=None)
@given(st.lists(st.floats(0.5, 2.0), min_size=2, max_size=30), st.integers(0, 100))
def test_errors_are_in_nn_meters_terms(ratios, seed):
    measured = np.random.default_rng(seed).uniform(0.1, 1.0, len(ratios))
    predicted = measured * ratios
    error = fit_error(predicted, measured, of="x", source="y", repeatability=3.21)
    off = np.abs(predicted / measured - 1)
    assume(not np.isclose(off[:, None], (0.1, 0.2), rtol=1e-9).any())  # which side rounding takes is nobody's business
    assert error.mape == pytest.approx(100 * off.mean(), abs=0.06)
    assert error.within_20 >= error.within_10
    assert error.within_20 == pytest.approx(100 * (off <= 0.2).mean(), abs=0.06)
    assert error.tau == pytest.approx(kendalltau(predicted, measured).statistic, abs=1e-3, nan_ok=True)
    assert (error.repeatability, error.points) == (3.2, len(ratios))


def test_confidence_follows_the_error():
    def of(mape):
        return confidence(fit_error(np.array([1 + mape]), np.array([1.0]), of="x", source="y", repeatability=None))

    assert [confidence(None), of(0.3), of(0.15), of(0.05)] == ["low", "low", "medium", "high"]


def test_classes_of_maps_are_finest(samples):
    known = samples[0].table.trace
    keys = {key for layer in known for key in class_keys(layer)[:1]}
    assert {"pointwise-k1-s1-m1", "depthwise-k3-s1-m4", "norm-batch-m16", "linear"} <= keys


def test_what_a_process_grows_by_is_its_factors_times_what_is_predicted(samples, device):
    assert working_set_bytes(samples[0].table, device, 8, "adam") is None  # rpi4: nobody measured it
    factors = WorkingSet(peak=2.0, saved=3.0, largest=4.0, constant=5, source="-")
    measured = device.model_copy(update={"memory": device.memory.model_copy(update={"working_set": factors})})
    for sample in samples[:6]:
        table = sample.table
        largest = max(table.trace.rows[n].out_elements for n in table.present[0].nonzero()[0])
        saved = saved_bytes(table, 8).sum()
        expected = 2 * peak_bytes(table, device, 8, "adam")[0] + 3 * saved + 4 * 8 * 4 * largest + 5
        np.testing.assert_allclose(working_set_bytes(table, measured, 8, "adam"), [expected])
