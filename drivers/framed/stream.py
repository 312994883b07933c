"""The link's other way of asking: requests that follow each other while their replies are taken one by one."""

from __future__ import annotations

from collections import deque

from drivers.errors import LinkError
from drivers.framed.exchange import Answer, Exchange, Request
from drivers.framed.link import FramedLink


class RequestStream:
    """Requests through the window of a link, whose replies are taken one by one while later requests are in flight.

    For requests that pulse nothing: nothing is in doubt when a stream is left in its middle. The link stays free for
    other calls between two calls of this class; each of them first waits for what is in flight here, and the replies
    are kept.

    Args:
        link: an open link, whose inner workings this class shares.
    """

    def __init__(self, link: FramedLink) -> None:
        self._link = link
        self._run: Exchange | None = None
        self._answers: deque[Answer] = deque()

    def put(self, request: Request) -> None:
        """Send a request; where the window is full, wait until it opens.

        Raises:
            LinkError: the board does not answer, or the link is closed or out of step.
            InstrumentError: the board refused an earlier request; this one was not sent.
        """
        link = self._link
        with link._lock:
            link._check_open()
            if self._run is None or link._streaming is not self._run:
                # Another call came in between: what was in flight here is answered, and has used sequence numbers.
                link._settle()
                self._run = link._streaming = link._run_of((), self._answers)
            run = self._run
            with link._interruptible(run):
                while not run.room and run.refusal is None:
                    link._await(run)
                if run.refusal is None:
                    link._write(run.launch(request))
            if run.refusal is not None:
                link._refuse(run.refusal)

    def take(self) -> bytes:
        """Return the payload, after the status code, of the reply to the oldest request that has not been taken.

        Raises:
            LinkError: as :meth:`put`; also when the link was closed or opened anew with the request in flight.
            InstrumentError: the board refused the request.
        """
        link = self._link
        with link._lock:
            if not self._answers:
                run = self._run
                link._check_open()
                if run is None or link._streaming is not run or not run.in_flight:
                    raise LinkError(f"no request of this stream is in flight at {link.port}; its link was opened anew")
                with link._interruptible(run):
                    while not self._answers:
                        link._await(run)
            answer = self._answers.popleft()
            if answer.refusal is not None:
                link._refuse(answer.refusal)
            return answer.body
