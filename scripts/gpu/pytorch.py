"""PyTorch on the GPU that this process sees, checked against the CPU.

    pytorch.py run                      one line of JSON per check: name, passed, seconds, values, note
    pytorch.py compare NATIVE POOLED    what differs between two such outputs; nothing when all is well
"""

import json
import sys
import time

# Values natively and through a pool: the same kernels on the same GPU, but atomics may add in another order.
TOLERANCE = 1e-4


def matrix_products(torch):
    """Products of several kinds, against the CPU in float64."""
    generator = torch.Generator().manual_seed(1)
    sums = {}
    kinds = (
        ("float64", torch.float64, 1e-12),
        ("float32", torch.float32, 1e-4),
        ("bfloat16", torch.bfloat16, 3e-2),
    )
    for name, kind, bound in kinds:
        a = torch.randn(512, 384, generator=generator, dtype=torch.float64)
        b = torch.randn(384, 640, generator=generator, dtype=torch.float64)
        expected = a.to(kind).double() @ b.to(kind).double()
        found = (a.to(kind).cuda() @ b.to(kind).cuda()).double().cpu()
        error = ((found - expected).abs().max() / expected.abs().max()).item()
        assert error < bound, f"{name}: relative error {error}, expected below {bound}"
        sums[name] = found.double().sum().item()
    return sums


def training(torch):
    """A small network whose loss must fall."""
    torch.manual_seed(2)
    model = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.Tanh(), torch.nn.Linear(64, 1)).cuda()
    inputs = torch.randn(256, 32).cuda()
    wanted = inputs.sin().sum(dim=1, keepdim=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(inputs), wanted)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2, f"the loss went from {losses[0]} to {losses[-1]}"
    return {"first": losses[0], "last": losses[-1]}


def out_of_memory(torch):
    """An allocation that cannot be is refused at once; everything goes on."""
    free, total = torch.cuda.mem_get_info()
    assert 0 < free <= total
    try:
        torch.empty(2 * total, dtype=torch.uint8, device="cuda")
        raise AssertionError("twice the GPU's memory was allocated")
    except torch.cuda.OutOfMemoryError:
        pass
    torch.cuda.empty_cache()
    assert torch.ones(1000, device="cuda").sum().item() == 1000
    return {}


def streams(torch):
    """Copies and kernels on two streams, ordered by events."""
    first, second = torch.cuda.Stream(), torch.cuda.Stream()
    pinned = torch.arange(1_000_000, dtype=torch.float32).pin_memory()
    with torch.cuda.stream(first):
        there = pinned.to("cuda", non_blocking=True) * 2
        ready = first.record_event()
    with torch.cuda.stream(second):
        second.wait_event(ready)
        total = there.double().sum()
        # The allocator must not reuse it while the second stream reads it.
        there.record_stream(second)
    second.synchronize()
    assert total.item() == 999_999.0 * 1_000_000
    return {}


def cuda_graph(torch):
    """A captured graph, replayed with other inputs."""
    place = torch.zeros(1000, device="cuda")
    warm = torch.cuda.Stream()
    with torch.cuda.stream(warm):
        (place * 3 + 1).sum()
    torch.cuda.current_stream().wait_stream(warm)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = (place * 3 + 1).sum()
    for value in (1, 2, 5):
        place.fill_(value)
        graph.replay()
        assert result.item() == 1000 * (3 * value + 1), f"{value}: {result.item()}"
    return {}


def random_numbers(torch):
    """The same seed gives the same numbers."""
    torch.cuda.manual_seed(3)
    first = torch.rand(100_000, device="cuda")
    torch.cuda.manual_seed(3)
    assert torch.equal(first, torch.rand(100_000, device="cuda"))
    return {"sum": first.double().sum().item()}


CHECKS = (matrix_products, training, out_of_memory, streams, random_numbers, cuda_graph)


def run():
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    note = f"torch {torch.__version__}, {torch.cuda.get_device_name()}"
    print(json.dumps({"name": "device", "passed": True, "values": {}, "note": note}), flush=True)
    all_passed = True
    for check in CHECKS:
        line = {"name": check.__name__, "passed": False, "values": {}, "note": ""}
        started = time.perf_counter()
        try:
            line["values"] = check(torch)
            torch.cuda.synchronize()
            line["passed"] = True
        except Exception as error:  # whatever it is belongs into the report
            line["note"] = f"{type(error).__name__}: {error}"[:500]
            all_passed = False
        line["seconds"] = round(time.perf_counter() - started, 4)
        print(json.dumps(line), flush=True)
    return 0 if all_passed else 1


def read(path):
    with open(path, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file if line.startswith("{")]
    return {line["name"]: line for line in lines}


def compare(native, pooled):
    native, pooled = read(native), read(pooled)
    for name, expected in native.items():
        found = pooled.get(name)
        if found is None:
            print(f"{name}: missing")
        elif found["passed"] != expected["passed"]:
            print(f"{name}: natively passed: {expected['passed']}, pooled: {found['passed']} {found['note']}")
        for key, value in expected["values"].items():
            other = (found or {}).get("values", {}).get(key)
            if other is None or abs(other - value) > TOLERANCE * max(1.0, abs(value)):
                print(f"{name}: {key} is {value} natively and {other} pooled")
    return 0


if __name__ == "__main__":
    if sys.argv[1:] == ["run"]:
        sys.exit(run())
    if sys.argv[1:2] == ["compare"] and len(sys.argv) == 4:
        sys.exit(compare(*sys.argv[2:]))
    print(__doc__, file=sys.stderr)
    sys.exit(64)
