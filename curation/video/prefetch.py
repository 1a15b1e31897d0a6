"""Decode in a thread of its own, while the caller works on earlier frames."""

import queue
import threading
from collections.abc import Iterable, Iterator

from curation.errors import UnreadableVideo
from curation.video.frame import Frame


def prefetch(frames: Iterable[Frame], depth: int = 4, patience_s: float | None = None) -> Iterator[Frame]:
    """Prefetch up to `depth` frames in a background thread, so that libav decodes while Python works.

    Raises UnreadableVideo if a frame takes longer than `patience_s`; the background thread is then abandoned.
    """
    ready: queue.SimpleQueue[Frame | BaseException | None] = queue.SimpleQueue()
    room = threading.Semaphore(depth)
    stop = threading.Event()

    def work() -> None:
        try:
            for frame in frames:
                room.acquire()
                if stop.is_set():
                    return
                ready.put(frame)
            ready.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again in the consuming thread
            ready.put(error)

    thread, stalled = threading.Thread(target=work, daemon=True), False
    thread.start()
    try:
        while (item := ready.get(timeout=patience_s)) is not None:
            if isinstance(item, BaseException):
                raise item
            room.release()
            yield item
    except queue.Empty:
        stalled = True
        raise UnreadableVideo(f"no frame came for {patience_s:g} s; check the file", step="decode") from None
    finally:
        stop.set()
        room.release()
        if not stalled:
            thread.join()
