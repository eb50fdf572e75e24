"""Loader of FFCV (https://github.com/libffcv/ffcv), with workarounds for its pitfalls."""

import os
import time
from collections.abc import Iterator
from queue import Empty

import torch

from crt.data.batches import Batch, Loader

STALL = 300.0
"""Seconds without a batch after which FFCV's thread counts as stalled; the first batch waits for a compiler."""


class FFCV(Loader):
    """FFCV with the file in the operating system's cache.

    The order is exact; crops and flips come from numba's per-thread generators, which cannot be seeded
    (https://github.com/libffcv/ffcv/issues/164). The pipeline's other changes are made to whole batches on the device,
    as in the loader `device`. FFCV decodes JPEGs by a faster, less exact transform than Pillow's and resizes them
    without torchvision's antialiasing.
    """

    def __init__(self, *args):
        super().__init__(*args)
        self._running = None
        # FFCV sets torch's threads to its own number, and to one on import.
        threads = torch.get_num_threads()
        try:
            from ffcv.fields.basics import IntDecoder
            from ffcv.fields.rgb_image import (
                CenterCropRGBImageDecoder,
                RandomResizedCropRGBImageDecoder,
                SimpleRGBImageDecoder,
            )
            from ffcv.loader import Loader as Reader
            from ffcv.transforms import RandomHorizontalFlip, RandomTranslate, ToTensor
            from ffcv.traversal_order.base import TraversalOrder
        except ImportError as error:
            raise ValueError(f"loader ffcv cannot be imported ({error}); torch and device do without") from error

        order = self.order

        class Traversal(TraversalOrder):
            def __init__(self):
                pass

            def __call__(self, reader):  # FFCV expects an instance, and calls it
                return self

            def sample_order(self, epoch):
                return order.of(epoch)

        size = (self.height, self.width)
        if not self.beton.jpeg:
            decoder = SimpleRGBImageDecoder()
        elif self.pipeline.crop:
            decoder = RandomResizedCropRGBImageDecoder(size)
        else:
            decoder = CenterCropRGBImageDecoder(size, ratio=self.height / self.resize)
        crop = [RandomTranslate(padding=self.pad, fill=(0, 0, 0))] if self.pad else []
        flip = [RandomHorizontalFlip()] if self.flip else []
        self._reader = Reader(
            str(self.file),
            batch_size=self.batch_size,
            num_workers=min(self.workers or threads, len(os.sched_getaffinity(0))),
            os_cache=True,
            order=Traversal(),
            seed=order.seed,
            drop_last=False,
            pipelines={
                "image": [decoder, *crop, *flip, ToTensor()],
                "label": [IntDecoder(), ToTensor()],
                "index": [IntDecoder(), ToTensor()],
            },
        )
        torch.set_num_threads(threads)

    def batches(self, epoch: int) -> Iterator[Batch]:
        self.close()
        threads = torch.get_num_threads()
        self._reader.next_epoch = epoch
        self._running = running = iter(self._reader)
        changes = self.changes(epoch)
        try:
            for _ in range(len(self)):
                x, y, index = self._next(running)
                torch.set_num_threads(threads)
                # FFCV's own ToDevice reuses its pinned buffers by count, even if the device has not copied them yet
                index = self.own(index.flatten())
                yield changes(self.own(x), index), self.own(y.flatten()), index
        finally:
            self._stop(running)
            torch.set_num_threads(threads)

    def _next(self, running) -> Batch:
        """FFCV's next batch; RuntimeError where its thread died or stalled, since FFCV itself would wait forever."""
        deadline = time.monotonic() + STALL
        while True:
            alive = running.is_alive()
            try:
                _, batch = running.output_queue.get(timeout=1.0)
                return batch
            except Empty:
                if not alive or time.monotonic() > deadline:
                    what = "has been silent for too long" if alive else "died (its traceback is above)"
                    raise RuntimeError(f"{self.file}: FFCV's thread {what}") from None

    def _stop(self, running) -> None:
        """End FFCV's thread, which could otherwise abort the process at exit."""
        running.iter_ixes = iter(())
        while running.is_alive():
            try:
                running.output_queue.get(timeout=0.02)
            except Empty:
                pass
        running.close()

    def close(self) -> None:
        if self._running is not None:
            self._stop(self._running)
            self._running = None
