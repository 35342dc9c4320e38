"""The rewritten graphs compute what the model says; compiled models are read back bit by bit, and nothing else is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perception_batch.detect import openvino_backend, openvino_compiled, openvino_graph
from perception_batch.detect.openvino_backend import OpenVinoNetwork, import_openvino, openvino_core

pytest.importorskip("openvino")


def computed(model: Any, values: Any) -> Any:
    compiled = openvino_core().compile_model(
        model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    )
    return compiled.create_infer_request().infer([values])[0]


@pytest.mark.parametrize(("arithmetic", "most"), [("float", 4e-7), ("bfloat16", 5.3e-4), ("int8", 4.7e-3)])
def test_silu_is_as_near_as_it_says(arithmetic: openvino_graph.Arithmetic, most: float) -> None:
    openvino, ops = import_openvino(), import_openvino("opset")
    values = np.concatenate(
        [np.linspace(-30, 30, 60_001), [-3e38, -1e4, -0.0, 0.0, 1e4, 3e38], np.logspace(-30, 1, 100)]
    ).astype(np.float32)
    x = ops.parameter(values.shape, np.float32)
    model = openvino.Model([ops.result(ops.swish(x))], [x])
    assert openvino_graph.rewrite(model, ops, arithmetic) == 1
    assert not any(node.get_type_name() == "Swish" for node in model.get_ops())
    wide = values.astype(np.float64)
    expected = wide / (1 + np.exp(np.minimum(-wide, 700)))
    error = np.abs(computed(model, values) - expected)
    # beyond the fitted part a rest of x * sigmoid(x) is left over, and all of float's range has to stay finite
    inner = np.abs(wide) <= 1e4
    scale = np.maximum(np.abs(wide[inner]), 1) if arithmetic == "float" else 1
    assert most / 2 < (error[inner] / scale).max() <= most
    assert np.isfinite(error).all()


@pytest.mark.parametrize("by", [np.float32(255), np.full((1, 1, 1, 1), 255, np.float32)])
def test_the_input_is_scaled_before_it_is_turned(by: Any) -> None:
    openvino, ops = import_openvino(), import_openvino("opset")
    images = np.random.default_rng(3).integers(0, 256, (2, 5, 7, 3), np.uint8)
    x = ops.parameter(images.shape, np.uint8)
    turned = ops.transpose(ops.convert(x, "f32"), np.array([0, 3, 1, 2]))
    model = openvino.Model([ops.result(ops.divide(turned, ops.constant(by)))], [x])
    assert openvino_graph.rewrite(model, ops, "float") == 1
    assert model.get_results()[0].input_value(0).get_node().get_type_name() == "Transpose"
    expected = (images.astype(np.float32) / 255).transpose(0, 3, 1, 2)
    assert np.allclose(computed(model, images), expected, rtol=2e-7, atol=0)


def test_what_is_like_it_but_not_it_stays() -> None:
    openvino, ops = import_openvino(), import_openvino("opset")
    x = ops.parameter((1, 4, 6, 3), np.float32)
    turned = ops.transpose(x, np.array([0, 3, 1, 2]))
    by_channel = ops.divide(turned, ops.constant(np.array([1, 2, 3], np.float32).reshape(1, 3, 1, 1)))
    model = openvino.Model([ops.result(by_channel)], [x])
    assert openvino_graph.rewrite(model, ops, "float") == 0
    steep = openvino.Model([ops.result(ops.swish(x, ops.constant(np.float32(2))))], [x])
    assert openvino_graph.rewrite(steep, ops, "float") == 0
    turned = ops.transpose(x, np.array([0, 3, 1, 2]))
    scaled = ops.divide(turned, ops.constant(np.float32(255)))
    twice = openvino.Model([ops.result(scaled), ops.result(ops.relu(turned))], [x])
    assert openvino_graph.rewrite(twice, ops, "float") == 0


def small_network(folder: Path) -> Path:
    """Bytes, scaled and turned, through a convolution and a SiLU to (1, 5, pixels)."""
    openvino, ops = import_openvino(), import_openvino("opset")
    x = ops.parameter([-1, -1, -1, 3], np.uint8)
    turned = ops.transpose(ops.convert(x, "f32"), np.array([0, 3, 1, 2]))
    scaled = ops.divide(turned, ops.constant(np.full((1, 1, 1, 1), 255, np.float32)))
    weights = np.random.default_rng(1).normal(size=(5, 3, 3, 3)).astype(np.float32)
    seen = ops.swish(ops.convolution(scaled, ops.constant(weights), [1, 1], [1, 1], [1, 1], [1, 1]))
    rows = ops.reshape(seen, ops.constant(np.array([0, 5, -1])), True)
    openvino.save_model(openvino.Model([ops.result(rows)], [x]), folder / "m.xml", compress_to_fp16=False)
    return folder / "m.xml"


def test_a_compiled_model_is_read_back_with_the_same_bits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = small_network(tmp_path)
    images = np.random.default_rng(5).integers(0, 256, (3, 32, 64, 3), np.uint8)
    monkeypatch.setattr(openvino_compiled, "cache_dir", lambda: tmp_path)
    imported: list[int] = []
    load = openvino_compiled.load

    def loading(file: Path) -> bytes | None:
        body = load(file)
        imported.append(0 if body is None else len(body))
        return body

    monkeypatch.setattr(openvino_compiled, "load", loading)

    def found(identity: str) -> bytes:
        network = OpenVinoNetwork(path, "fp32", 2, 1, identity=identity)
        return b"".join(output.tobytes() for output in network.outputs(images))

    without = found("")
    assert not imported
    assert found("hashes") == without
    assert found("hashes") == without
    assert imported[0] == 0 < imported[1]
    (file,) = (tmp_path / "compiled").iterdir()
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(bytes(damaged))
    assert found("hashes") == without
    assert imported[2] == 0  # not imported, but made again
    openvino_compiled.keep(file, b"no model, but as it was written")
    assert found("hashes") == without


def test_a_cache_that_cannot_be_written_or_read_costs_time_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    openvino_compiled.keep(tmp_path / "file" / "a.compiled", b"x")
    assert openvino_compiled.load(tmp_path / "file" / "a.compiled") is None
    (tmp_path / "short.compiled").write_bytes(b"x" * 32)
    assert openvino_compiled.load(tmp_path / "short.compiled") is None


def test_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_compiled, "MOST_FILES", 3)
    for number in range(5):
        openvino_compiled.keep(tmp_path / f"{number}.compiled", b"%d" % number)
        openvino_compiled.load(tmp_path / "0.compiled")  # what is used stays
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.compiled", "3.compiled", "4.compiled"]


def test_the_name_depends_on_all_that_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    usual: tuple[Any, ...] = ("a", (64, 96), {"NUM_STREAMS": 2}, "2026.4", "a processor")
    others: tuple[Any, ...] = ("b", (96, 64), {"NUM_STREAMS": 1}, "2027.0", "another")
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    changed = [(*usual[:i], other, *usual[i + 1 :]) for i, other in enumerate(others)]
    files = {openvino_compiled.compiled_file(*decides) for decides in (usual, *changed)}
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    files.add(openvino_compiled.compiled_file(*usual))
    assert len(files) == 2 + len(others)


def test_bf16_is_not_thought_to_be_there_where_the_user_forbids_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_compiled, "processor_flags", lambda: ("avx2", "amx_bf16"))
    for limit, expected in (
        ("", True),
        ("ALL", True),
        ("AVX512_CORE_AMX", True),
        ("AVX512_CORE_VNNI", False),
    ):
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
        assert openvino_backend.has_bf16() is expected
