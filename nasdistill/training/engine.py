"""Device, precision and processes of a run, on Lightning Fabric."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import platform
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Field

from nasdistill.component import Options
from nasdistill.depthwise.processor import cpu_has_bf16
from nasdistill.errors import SpecError
from nasdistill.training.launch import launch

if TYPE_CHECKING:
    import torch
    from torch import nn

    from nasdistill.training.fabric import Fabric

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # as malloc.h numbers them


def _number_as_text(given: Any) -> Any:
    """YAML reads 32 as a number."""
    return str(given) if isinstance(given, int) else given


class DeviceSettings(Options):
    """One device and how it computes."""

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where to compute")
    precision: Annotated[Literal["auto", "32", "bf16"], BeforeValidator(_number_as_text)] = Field(
        "auto",
        description="bf16 is mixed precision; auto takes it where the hardware computes in it. Convolutions in 32 on "
        "an NVIDIA GPU are TF32, which is torch's default",
    )
    channels_last: bool = Field(True, description="keep images and convolutions channels-last in memory")


class EngineSettings(DeviceSettings):
    """The `engine` section of a recipe."""

    devices: int = Field(1, gt=0, description="processes, each with a device of its own")
    sync_batch_norm: bool = Field(
        True,
        description="with several processes, normalise by the statistics of the whole batch, as one process does; else "
        "each by those of its share, a ghost batch: fewer messages, but another result with each number of processes",
    )


def gpus_possible() -> bool:
    """Whether torch could find a GPU, told without importing it; it finds none on Linux where there is no driver.

    CUDA's devices are seen through the driver's library or NVML's, ROCm's through `/dev/kfd`, both through `/dev/dxg`
    in Windows' subsystem.
    """
    if sys.platform != "linux" or any(map(os.path.exists, ("/dev/kfd", "/dev/dxg"))):
        return True
    for library in ("libcuda.so.1", "libnvidia-ml.so.1"):
        with contextlib.suppress(OSError):
            ctypes.CDLL(library)
            return True
    return False


def resolve(settings: EngineSettings) -> tuple[str, str]:
    """The accelerator and the precision ("32" or "bf16") that the settings mean on this machine.

    Raises:
        SpecError: the machine has no such accelerator, or too few of them.
    """
    there = {"cuda": 0, "mps": 0, "cpu": os.cpu_count() or 1}
    if settings.accelerator != "cpu" and gpus_possible():
        import torch

        there |= {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    available = [name for name, count in there.items() if count]
    accelerator: str = available[0] if settings.accelerator == "auto" else settings.accelerator
    if accelerator not in available:
        raise SpecError(
            f"this machine offers no {accelerator} to torch (it offers {' and '.join(available)})", ("accelerator",)
        )
    if settings.devices > there[accelerator]:
        what = "cpu cores" if accelerator == "cpu" else accelerator
        raise SpecError(
            f"{settings.devices} devices were asked for, the machine has {there[accelerator]} {what}", ("devices",)
        )
    precision: str = settings.precision
    if precision == "auto":
        precision = "bf16" if _has_bf16(accelerator) else "32"
    return accelerator, precision


def processes_of(settings: EngineSettings) -> int:
    """How many processes share the work: as many as there are under torchrun, else those that were asked for."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else settings.devices


def _has_bf16(accelerator: str) -> bool:
    if accelerator == "cuda":
        import torch

        return bool(torch.cuda.is_bf16_supported(including_emulation=False))  # which is slower than float32
    return accelerator == "cpu" and cpu_has_bf16()


def keep_freed_memory() -> None:
    """Let the C library keep the memory of freed activations, which the next step asks for again.

    By default glibc hands large blocks back to the system, and each step pays for fresh, zeroed pages: up to a sixth of
    a training step in float32. Other C libraries are left as they are.
    """
    with contextlib.suppress(OSError, AttributeError):  # of a C library that nobody can ask which one it is
        if sys.platform != "linux" or "glibc" not in platform.libc_ver()[0]:
            return
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


class Engine:
    """One device with its precision; every loop of the project runs on it.

    With several devices each is a process of its own, started by torchrun or by Fabric, and all run the same program:
    each computes its share of every batch, gradients are averaged, and the first one writes.

    Attributes:
        fabric: the launched Lightning Fabric.
        precision: "32" or "bf16", resolved.
        memory_format: of images and of networks' weights.
    """

    def __init__(self, settings: EngineSettings) -> None:
        import torch

        from nasdistill.training.fabric import Fabric, LightningEnvironment
        from nasdistill.training.precision import Autocast

        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces what we asked it for
        accelerator, self.precision = resolve(settings)
        if accelerator == "cpu":
            keep_freed_memory()
        self.memory_format = torch.channels_last if settings.channels_last else torch.contiguous_format
        # torchrun has decided already how many processes there are; else it is up to this one, whatever a cluster's own
        # variables say.
        by_torchrun = torch.distributed.is_torchelastic_launched()
        if not by_torchrun:
            launch(settings.devices)
        devices = int(os.environ.get("LOCAL_WORLD_SIZE", settings.devices))
        nodes = int(os.environ.get("WORLD_SIZE", devices)) // devices
        self.fabric: Fabric = Fabric(
            accelerator=accelerator,
            devices=devices,
            num_nodes=nodes,
            plugins=[
                *([Autocast(accelerator)] if self.precision == "bf16" else []),
                *([] if by_torchrun else [LightningEnvironment()]),
            ],
        )
        self.fabric.launch()
        self._synchronised = settings.sync_batch_norm and self.processes > 1

    @property
    def device(self) -> torch.device:
        return self.fabric.device

    @property
    def processes(self) -> int:
        return self.fabric.world_size

    def place(self, module: nn.Module) -> nn.Module:
        """Move a module to the device and its convolutions to the memory format, in place; see `accelerate` too."""
        from nasdistill.depthwise.convolution import accelerate

        accelerate(module)
        return module.to(self.device).to(memory_format=self.memory_format)

    def setup(self, module: nn.Module, *optimizers: torch.optim.Optimizer) -> Any:
        """Fabric's wrapping of a module that is trained, and of its optimisers: precision and processes."""
        self.place(module)
        if self._synchronised:
            from nasdistill.training.synchronised import keep_statistics_from_ddp

            self.broadcast_buffers(module)
            keep_statistics_from_ddp(module)
        if self.processes > 1:
            # Only where it is needed, as torch's DDP then follows every gradient at every step.
            options = cast(Any, self.fabric.strategy)._ddp_kwargs
            options["find_unused_parameters"] = getattr(module, "leaves_weights", False)
        return self.fabric.setup(module, *optimizers)

    def autocast(self) -> AbstractContextManager[Any]:
        """The engine's precision, for forward passes of modules that Fabric does not wrap."""
        return self.fabric.autocast()

    def optimizer_step(
        self, losses: Mapping[str, torch.Tensor], module: nn.Module, stepper: Any, clip: float | None
    ) -> torch.Tensor | None:
        """One step down the gradient of the sum of the losses, which are scalars.

        Args:
            module, stepper: what `setup` made of a module and its optimiser.
            clip: largest norm of the gradients together; longer ones are scaled.

        Returns:
            The L2 norm of the gradients together before they were scaled, []; None without `clip`, as it takes time to
            compute. `clip=math.inf` computes it and scales nothing.
        """
        import torch

        self.fabric.backward(torch.stack(list(losses.values())).sum())
        norm = None
        if clip is not None:
            norm = self.fabric.clip_gradients(module, stepper, max_norm=clip, error_if_nonfinite=False)
        stepper.step()
        stepper.zero_grad()
        return norm

    def shared_statistics(self) -> AbstractContextManager[Any]:
        """Batch norm over the whole batch, where settings and processes ask for it; around a loop that all run."""
        if not self._synchronised:
            return contextlib.nullcontext()
        from nasdistill.training.synchronised import SynchronisedStatistics

        return SynchronisedStatistics()

    def broadcast(self, tensor: torch.Tensor) -> torch.Tensor:
        """The first process's values of a tensor that all have, in place where `tensor` lies on the device."""
        if self.processes == 1:
            return tensor
        import torch

        on_device = tensor.to(self.device)
        torch.distributed.broadcast(on_device, 0)
        return on_device.to(tensor.device)

    def broadcast_buffers(self, module: nn.Module) -> None:
        """Give all processes the first one's buffers: normalisation statistics differ as the shares do."""
        for buffer in module.buffers():
            self.broadcast(buffer)

    def diversify_random_state(self) -> None:
        """Let each process but the first draw numbers of its own, e.g. for dropout, where all were seeded alike."""
        if self.fabric.global_rank > 0:
            import torch

            torch.manual_seed(torch.initial_seed() + self.fabric.global_rank)
