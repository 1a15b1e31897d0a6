"""What every network of a system is held to, and random weights that hide nothing."""

import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing

from models.systems.recipe import System, count

ROOT = Path(__file__).parents[3]


def randomised(network, seed: int = 0, scale: float = 0.15):
    """Every weight random and in float64, so that no branch which starts at zero hides anything."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.data = scale * torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
    return network.double()


def noise(*shape: int, seed: int = 1) -> Tensor:
    """Random numbers, so frames are distinct."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, dict):
        return {key: cast(part, dtype) for key, part in value.items()}
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


def compiles(network: nn.Module, *inputs: Tensor, **given: Any) -> None:
    """As one graph, with the same output."""
    torch.compiler.reset()
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True, dynamic=False)
    with torch.no_grad():
        torch.testing.assert_close(compiled(*inputs, **given), network(*inputs, **given), rtol=1e-9, atol=1e-10)


def runs_in_bf16(network: nn.Module, *inputs: Tensor, **given: Any) -> None:
    """Close to what float64 gives, and of its own kind."""
    with torch.no_grad():
        expected = network(*inputs, **given)
        out = deepcopy(network).bfloat16()(*(cast(x, torch.bfloat16) for x in inputs), **cast(given, torch.bfloat16))
    assert out.dtype == torch.bfloat16
    assert (out.double() - expected).norm() < 0.1 * expected.norm()


def stays_in_bf16(network: nn.Module, kinds: tuple[type[nn.Module], ...], *inputs: Any, **given: Any) -> None:
    """Under autocast, every part of these classes gets and returns bfloat16: no float32 parameter promotes the rest."""
    parts = {name: module for name, module in network.named_modules() if isinstance(module, kinds)}
    seen: dict[str, set[torch.dtype]] = {}
    for name, part in parts.items():
        part.register_forward_hook(lambda _, args, out, name=name: seen.update({name: {args[0].dtype, out.dtype}}))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        network(*inputs, **given)
    assert seen
    assert {name: kinds for name, kinds in seen.items() if kinds != {torch.bfloat16}} == {}


def same_when_checkpointed(network: nn.Module, kind: type[nn.Module], *inputs: Tensor, **given: Any) -> None:
    """Activation checkpointing from outside changes neither the output nor a gradient."""
    wrapped = deepcopy(network)
    apply_activation_checkpointing(wrapped, check_fn=lambda module: isinstance(module, kind))
    assert any("_checkpoint_wrapped_module" in name for name, _ in wrapped.named_parameters())
    for expected, got in zip(gradients(network, *inputs, **given), gradients(wrapped, *inputs, **given), strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


def gradients(network: Callable[..., Tensor], *inputs: Tensor, **given: Any) -> list[Tensor]:
    """The output, and the gradient of its square for each parameter."""
    out = network(*inputs, **given)
    parameters = [p for p in network.parameters() if p.requires_grad]  # type: ignore[attr-defined]
    found = torch.autograd.grad(out.square().mean(), parameters, allow_unused=True)
    return [out.detach(), *(torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True))]


def wakes_up(
    network: nn.Module, trained: list[nn.Parameter], forward: Callable[[Tensor], Tensor], x: Tensor, steps: int = 3
) -> None:
    """After some training steps every trained parameter has moved, none of the others has, and frames interact."""
    before = {p: p.detach().clone() for p in network.parameters()}
    optimizer = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0)
    for _ in range(steps):
        optimizer.zero_grad()
        (forward(x) - x.roll(1, 2)).square().mean().backward()
        optimizer.step()
    kept = {id(p) for p in trained}
    still = [name for name, p in network.named_parameters() if id(p) in kept and torch.equal(p, before[p])]
    assert still == []
    assert all(torch.equal(p, before[p]) for p in network.parameters() if id(p) not in kept)
    interact(forward, x)


def interact(forward: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """The first and last frames' outputs depend on the other's input, and a middle one's on its neighbour."""
    x = x.detach().requires_grad_()
    out, last = forward(x), x.shape[2] - 1
    for i, j in ((0, last), (last, 0), (1, 2)):
        (slope,) = torch.autograd.grad(out[:, :, i].square().sum(), x, retain_graph=True)
        assert slope[:, :, j].abs().max() > 1e-8


def size_in_words(parameters: int) -> str:
    return f"{parameters / 1e9:.2f} B" if parameters >= 1e9 else f"{parameters / 1e6:.2f} M"


def page_holds(name: str, system: System) -> dict[str, Any]:
    """The system's page: its example runs, the names that it defines are returned, every test it names exists, and it
    gives the number of parameters of each network of both configurations."""
    page = (ROOT / "docs" / "systems" / f"{name}.md").read_text()
    tests = "".join(path.read_text() for path in (ROOT / "tests" / "models" / "systems").glob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", page)
    assert len(named) > 5
    assert [test for test in named if f"\ndef {test}(" not in tests] == []
    with torch.device("meta"):
        networks = [*system.tiny().values(), *system.paper_size().values()]
    assert [n for n in (size_in_words(count(network)) for network in networks) if n not in page] == []
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    return names
