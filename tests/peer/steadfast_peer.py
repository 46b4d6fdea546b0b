#!/usr/bin/env python3
"""A small peer for steadfast's `Native` protocol, version 1, written from docs/protocol.md alone.

    steadfast_peer.py serve --listen 127.0.0.1:0 [--delay-ms N] [--ping-every-ms N] [--cached-calls N]
    steadfast_peer.py call --to 127.0.0.1:7000 [--count N] [--size BYTES] BODY
    steadfast_peer.py vectors > docs/protocol-vectors.json
    steadfast_peer.py check-vectors docs/protocol-vectors.json

From the top down: the codec; the two ends as state without a socket (bytes in, frames out); what a server
remembers; the shell that moves the bytes; the two programs; the vectors. The client does not connect again, so it
sends no call again. Standard library only.
"""
import argparse
import asyncio
import hashlib
import json
import os
import signal
import struct
import sys
import time
from collections import deque

# ---- The codec -----------------------------------------------------------------------------------------

MAGIC, TOP_BIT = b"STEADFST", 1 << 63
MAX_FRAME, MAX_PART, MAX_UNFINISHED, MAX_TEXT = 65_600, 65_536, 16, 1_024

# Kind, name, the fixed fields with their `struct` codes, and after a `+` what follows them. A `WELCOME` may also
# have a `memory`, a u64, behind those; it has none if that is 0.
TABLE = """
01 HELLO    magic:8s min_version:H max_version:H client_id:16s connection:Q replaces:Q max_message:I
            heartbeat_every_ms:I give_up_after_ms:I next_id:Q
02 WELCOME  version:H instance_id:16s max_message:I max_in_flight:I idle_limit_ms:I heartbeat_every_ms:I
            cached_calls:I cached_bytes:Q cache_age_ms:I
03 BUSY     code:I retry_after_ms:I +text
04 REJECT   code:I +text
10 REQUEST  flags:B id:Q remaining_ms:I oldest:Q +body
11 REPLY    flags:B id:Q +body
12 ERROR    id:Q code:I +text
13 REFUSED  id:Q code:I retry_after_ms:I
14 CHUNK    flags:B id:Q +data
15 CANCEL   id:Q
16 NOTIFY   flags:B id:Q +body
17 PUSH     flags:B id:Q +body
20 PING     nonce:Q
21 PONG     nonce:Q
22 GOAWAY   code:I accepted:Q retry_after_ms:I +text
"""
KINDS = {}      # name: (kind, [(field, struct code)], what follows, the layout of kind and fixed fields)
for line in TABLE.strip().replace("\n     ", " ").split("\n"):
    (number, title, *columns), rest = line.split("+")[0].split(), line.partition("+")[2]
    columns = [tuple(column.split(":")) for column in columns]
    KINDS[title] = (int(number, 16), columns, rest, struct.Struct(">B" + "".join(code for _, code in columns)))
NAMES = {row[0]: name for name, row in KINDS.items()}
FLAGS = dict.fromkeys(("REPLY", "NOTIFY", "PUSH"), {"MORE": 1})
FLAGS.update(REQUEST={"MORE": 1, "REPEATABLE": 2, "RESENT": 4}, CHUNK={"LAST": 1})


class Violation(Exception):
    """The other end broke the protocol; the text is the one that the page names."""


def raw(payload):
    """A frame around any payload."""
    return struct.pack(">I", len(payload)) + payload


def encode(name, **fields):
    """A whole frame. `flags` is a list of names; `total` counts only with MORE."""
    kind, fixed, tail, layout = KINDS[name]
    flags = fields.get("flags", [])
    values = dict(fields, magic=MAGIC, flags=sum(FLAGS[name][flag] for flag in flags))
    payload = layout.pack(kind, *(values[field] for field, _ in fixed))
    if name == "WELCOME" and fields["memory"]:
        payload += struct.pack(">Q", fields["memory"])
    if "MORE" in flags:
        payload += struct.pack(">I", fields["total"])
    if tail == "text":      # cut between two characters
        return raw(payload + fields["text"].encode()[:MAX_TEXT].decode(errors="ignore").encode())
    return raw(payload + (bytes(fields[tail]) if tail else b""))


def decode(name, payload):
    """The fields of a payload of this kind, in the page's order."""
    _, fixed, tail, layout = KINDS[name]
    too_short, end = Violation(f"{name} of {len(payload)} bytes is too short"), layout.size
    if len(payload) < end:
        raise too_short
    fields = dict(zip((field for field, _ in fixed), layout.unpack_from(payload)[1:]))
    if fields.pop("magic", MAGIC) != MAGIC:
        raise Violation("not a steadfast HELLO")
    if name == "WELCOME":
        fields["memory"] = struct.unpack_from(">Q", payload, end)[0] if len(payload) >= end + 8 else 0
    if "flags" in fields:
        fields["flags"] = [flag for flag, bit in FLAGS[name].items() if fields["flags"] & bit]
    if tail == "body":
        fields["total"] = None
        if "MORE" in fields["flags"]:
            if len(payload) < end + 4:
                raise too_short
            fields["total"], end = struct.unpack_from(">I", payload, end)[0], end + 4
    if tail:
        fields[tail] = payload[end:].decode(errors="replace") if tail == "text" else payload[end:]
    return fields


def cut_frame(buffer):
    """Takes the first whole frame off a bytearray: its name and its payload, None while there is none.
    The name is None as well for a kind that is to be ignored."""
    length = int.from_bytes(buffer[:4], "big")
    if len(buffer) >= 4 and not 0 < length <= MAX_FRAME:
        raise Violation(f"frame of {length} bytes exceeds the limit of {MAX_FRAME}" if length else "empty frame")
    if len(buffer) < 4 + max(1, length):
        return None, None
    payload = bytes(buffer[4:4 + length])
    del buffer[:4 + length]
    if payload[0] not in NAMES and payload[0] < 0x80:
        raise Violation(f"unknown kind 0x{payload[0]:02x}")
    return NAMES.get(payload[0]), payload


# ---- The two ends: bytes in, frames out ------------------------------------------------------------------

MAX_MESSAGE, MAX_IN_FLIGHT = 1_048_576, 1_024


class End:
    """What both ends have in common. `wake` is called when there is something new to send."""

    def __init__(self, heartbeat_ms):
        self.heartbeat_ms, self.peer = heartbeat_ms, None   # peer: its HELLO or WELCOME, once it has come
        self.ended = False                                  # the last frame is queued, nothing is read
        self.buffer, self.unfinished = bytearray(), {}      # unfinished: id: (kind, first frame, bytes so far)
        self.control, self.short, self.long = deque(), deque(), deque()
        self.carried, self.pushed = 0, TOP_BIT              # the greatest id of either sequence
        self.wake = lambda: None

    def receive(self, data):
        """Acts on bytes from the peer, discards them once all is over. Raises Violation."""
        self.buffer += b"" if self.ended else data
        while not self.ended:
            name, payload = cut_frame(self.buffer)
            if payload is None:
                return
            if (name or not self.peer) and name not in (self.EXPECTED if self.peer else self.EXPECTED_FIRST):
                raise Violation(f"unexpected {name or 'unknown kind'}")
            if name:
                getattr(self, "on_" + name.lower())(name, decode(name, payload))

    def begin(self, name, first):
        """Takes the first frame of a message; `complete` is called once all of it has come."""
        body, total = first["body"], first["total"]
        if (total or len(body)) > MAX_MESSAGE:
            raise Violation(f"message of {total or len(body)} bytes exceeds the limit of {MAX_MESSAGE}")
        if total is None:
            return self.complete(name, first, body)
        if not 0 < len(body) < total:
            raise Violation(f"message of {total} bytes announced, {len(body)} came")
        if len(self.unfinished) == MAX_UNFINISHED:
            raise Violation(f"more than {MAX_UNFINISHED} unfinished messages")
        self.unfinished[first["id"]] = (name, first, bytearray(body))

    def on_chunk(self, _, chunk):
        ident, last = chunk["id"], "LAST" in chunk["flags"]
        if ident not in self.unfinished:
            if ident > (self.pushed if ident >= TOP_BIT else self.carried):
                raise Violation(f"CHUNK to nobody: id {ident}")
            return
        name, first, body = self.unfinished[ident]
        body += chunk["data"]
        if not chunk["data"] or len(body) > first["total"] or last != (len(body) == first["total"]):
            raise Violation(f"message of {first['total']} bytes announced, {len(body)} came")
        if last:
            del self.unfinished[ident]
            self.complete(name, first, bytes(body))

    def on_ping(self, _, ping):
        self.send("PONG", nonce=ping["nonce"])

    on_pong = on_goaway = lambda *_: None

    def send(self, name, **fields):
        data = name in ("REQUEST", "REPLY", "ERROR", "REFUSED", "PUSH")
        (self.short if data else self.control).append(encode(name, **fields))
        self.wake()

    def send_message(self, name, body, **fields):
        if len(body) <= MAX_PART:
            return self.send(name, flags=[], body=body, **fields)
        self.long.append((fields["id"], 0, name, fields, memoryview(body)))
        self.wake()

    def next_frame(self):
        """What to write next: control frames, then short messages, then the first 16 long ones in turn."""
        if self.control or self.short:
            return (self.control or self.short).popleft()
        if not self.long:
            return None
        ident, start, name, fields, body = self.long.popleft()
        part, end = body[start:start + MAX_PART], start + MAX_PART
        if end < len(body):
            self.long.insert(MAX_UNFINISHED - 1, (ident, end, name, fields, body))
        if start == 0:
            return encode(name, flags=["MORE"], total=len(body), body=part, **fields)
        return encode("CHUNK", flags=[] if end < len(body) else ["LAST"], id=ident, data=part)

    def end_with(self, name, **fields):
        """Queues the last frame of this connection, instead of the data that waits."""
        self.short, self.long, self.ended = deque(), deque(), True
        self.send(name, **fields)

    def fail(self, text):
        self.end_with("GOAWAY", code=2, accepted=0, retry_after_ms=0, text=text)


class Server(End):
    """The end that accepted. Answers each request with its own body, or does what the body says."""
    EXPECTED_FIRST, EXPECTED = {"HELLO"}, {"REQUEST", "CHUNK", "CANCEL", "NOTIFY", "PING", "PONG", "GOAWAY"}

    def __init__(self, instance_id=bytes(16), heartbeat_ms=5_000, delay_ms=0, clients=None):
        super().__init__(heartbeat_ms)
        self.clients, self.memory = clients, None   # None: no reply cache
        self.instance_id, self.delay_s, self.draining = instance_id, delay_ms / 1000, False
        self.held, self.requests = {}, 0            # id of a request: when it expires; how many have come

    def on_hello(self, _, hello):
        if not hello["min_version"] <= 1 <= hello["max_version"]:
            return self.end_with("REJECT", code=1, text="this server speaks version 1 only")
        self.peer, cache = hello, dict(cached_calls=0, cached_bytes=0, cache_age_ms=0, memory=0)
        if self.clients:
            self.memory = self.clients.enter(self)
            cache = dict(cached_calls=self.clients.most, cached_bytes=2**64 - 1, cache_age_ms=CACHE_AGE_S * 1_000,
                         memory=self.memory.number)
        self.send("WELCOME", version=1, instance_id=self.instance_id, max_message=MAX_MESSAGE,
                  max_in_flight=MAX_IN_FLIGHT, idle_limit_ms=0, heartbeat_every_ms=self.heartbeat_ms, **cache)

    def on_request(self, name, first):
        ident, too_long = first["id"], (first["total"] or len(first["body"])) > MAX_MESSAGE
        if not 0 < ident < TOP_BIT:
            raise Violation(f"id {ident} is out of range")
        if ident in self.held or ident in self.unfinished:
            raise Violation(f"id {ident} is in use")
        self.carried = max(self.carried, ident)
        if self.draining:
            return                                  # it will never run, and needs no answer
        if name == "REQUEST":
            self.requests += 1
            if too_long or len(self.held) == MAX_IN_FLIGHT:
                return self.send("REFUSED", id=ident, code=5 if too_long else 1, retry_after_ms=0)
            self.held[ident] = time.monotonic() + (first["remaining_ms"] / 1000 or float("inf"))
        if not too_long:
            self.begin(name, first)

    on_notify = on_request

    def complete(self, name, first, body=b""):
        ident = first["id"]
        if name == "REQUEST" and self.memory and "REPEATABLE" not in first["flags"]:
            known = self.memory.begin(self, ident, first["oldest"])
            if isinstance(known, tuple):
                self.respond(ident, *known)
            if known:
                return
        if name == "REQUEST" and time.monotonic() > self.held[ident]:
            self.answer("REFUSED", ident, code=3, retry_after_ms=0)
        elif name == "REQUEST" and self.delay_s:
            asyncio.get_running_loop().call_later(self.delay_s, self.work, ident, body)
        elif name == "REQUEST":
            self.work(ident, body)

    def work(self, ident, body):
        if ident not in self.held:
            return                                  # cancelled meanwhile
        command, _, rest = body.partition(b" ")
        code, _, text = rest.partition(b" ")
        if command == b"error" and code.isdigit():
            self.answer("ERROR", ident, code=int(code), text=text.decode(errors="replace"))
        elif command == b"refuse" and code.isdigit() and text.isdigit():
            self.answer("REFUSED", ident, code=int(code), retry_after_ms=int(text))
        elif len(body) > self.peer["max_message"]:
            self.answer("ERROR", ident, code=0xffff0001, text="the reply is longer than you accept")
        elif command == b"forget" and self.memory:
            self.clients.forget(self)
        else:
            if command == b"lose":
                self.stop()
            if command == b"push":
                self.pushed += 1
                self.send_message("PUSH", rest, id=self.pushed)
            self.answer("REPLY", ident, body=body)

    def answer(self, name, ident, **fields):
        waiting = self.memory.settle(ident, (name, fields)) if self.memory else []
        for end in waiting or [self]:
            end.respond(ident, name, fields)

    def respond(self, ident, name, fields):
        if self.held.pop(ident, None) and not self.ended:
            (self.send_message if name == "REPLY" else self.send)(name, id=ident, **fields)

    def stop(self):
        """Nothing more is read or sent."""
        self.control, self.short, self.long, self.ended = deque(), deque(), deque(), True
        self.wake()

    def on_cancel(self, _, cancel):
        self.unfinished.pop(cancel["id"], None)
        if self.held.pop(cancel["id"], None):
            self.wake()                             # this may have been the last

    def drain(self):
        if self.peer and not self.ended:
            self.draining = True
            self.send("GOAWAY", code=0, accepted=self.requests, retry_after_ms=0, text="shutting down")
        elif not self.ended:
            self.end_with("BUSY", code=2, retry_after_ms=0, text="shutting down")

    def is_finished(self):
        return self.ended or (self.draining and not self.held)

    def fail(self, text):
        fields = dict(accepted=self.requests, retry_after_ms=0) if self.peer else {}
        self.end_with("GOAWAY" if self.peer else "REJECT", code=2, text=text, **fields)


CACHE_AGE_S = 60
FORGOTTEN = ("ERROR", dict(code=0xffff0003, text="it is not known any more whether it ran"))


class Memory:
    """What a server remembers of one client's calls, over all its connections."""

    def __init__(self, number, next_id, most):
        self.number, self.floor, self.most = number, next_id, most
        self.ends, self.left = {}, None     # by the client's numbers of its connections; when one last ended
        self.calls = {}                     # id: the ends that wait while it runs, then its answer

    def begin(self, end, ident, oldest):
        """None if the call is new, its answer if it has one. Otherwise it runs, and this end waits as well."""
        new = ident >= max(self.floor, oldest) and ident not in self.calls
        self.floor = max(self.floor, oldest)
        self.calls = {known: call for known, call in self.calls.items() if known >= self.floor}
        call = self.calls.setdefault(ident, []) if new else self.calls.get(ident, FORGOTTEN)
        if isinstance(call, list):
            call.append(end)
        return None if new else call

    def settle(self, ident, answer):
        """Keeps an answer, and returns the ends that wait for it: none if the call is not remembered."""
        waiting = self.calls.get(ident)
        if not isinstance(waiting, list):
            return []
        self.calls[ident] = answer
        kept = [known for known, call in self.calls.items() if isinstance(call, tuple) and call is not FORGOTTEN]
        self.calls.update(dict.fromkeys(kept[:-self.most], FORGOTTEN))
        return waiting


class Clients:
    """All clients that a server remembers."""

    def __init__(self, most):
        self.most, self.known, self.number = most, {}, 0    # most: answers kept for each

    def enter(self, end):
        """A connection has said HELLO. The one that it replaces is not served any more."""
        hello = end.peer
        memory = self.known.get(hello["client_id"]) or self.remember(hello["client_id"], hello["next_id"])
        replaced = memory.ends.pop(hello["replaces"], None)
        if replaced:
            replaced.stop()
        memory.ends[hello["connection"]] = end
        return memory

    def remember(self, client_id, next_id):
        self.number += 1
        self.known[client_id] = Memory(self.number, next_id, self.most)
        return self.known[client_id]

    def leave(self, end):
        """A connection has ended. Long after the last one the client is forgotten."""
        memory = end.memory
        if memory and memory.ends.get(end.peer["connection"]) is end:
            del memory.ends[end.peer["connection"]]
            memory.left = left = time.monotonic()
            asyncio.get_running_loop().call_later(CACHE_AGE_S, self.expire, end.peer["client_id"], left)

    def expire(self, client_id, left):
        memory = self.known.get(client_id)
        if memory and memory.left == left and not memory.ends:
            del self.known[client_id]

    def forget(self, end):
        """As if the client had been away for too long, and a HELLO come then that is older than all its calls."""
        for other in list(end.memory.ends.values()):
            other.stop()
        self.remember(end.peer["client_id"], 1)


class Client(End):
    """The end that connected: sends `bodies` as requests 1, 2, ... and `show`s all that comes of them."""
    EXPECTED_FIRST = {"WELCOME", "BUSY", "REJECT"}
    EXPECTED = {"REPLY", "ERROR", "REFUSED", "CHUNK", "PUSH", "PING", "PONG", "GOAWAY"}

    def __init__(self, bodies, show=lambda *_: None, heartbeat_ms=5_000):
        super().__init__(heartbeat_ms)
        self.bodies, self.show = deque(bodies), show
        self.sent, self.asked, self.answered = [], set(), 0     # ids in their order; unanswered ones; a count
        self.send("HELLO", min_version=1, max_version=1, client_id=os.urandom(16), connection=1, replaces=0,
                  max_message=MAX_MESSAGE, heartbeat_every_ms=heartbeat_ms, give_up_after_ms=2 * heartbeat_ms,
                  next_id=1)

    def on_welcome(self, _, welcome):
        self.peer = welcome
        self.ask()

    def on_busy(self, name, fields):
        self.ended = True
        self.show(name, fields)
        self.wake()

    on_reject = on_busy

    def ask(self):
        """Sends as many requests as the server holds at once, and says good-bye after the last answer."""
        while self.bodies and len(self.asked) < self.peer["max_in_flight"]:
            body = self.bodies.popleft()
            if len(body) > self.peer["max_message"]:
                self.show("NOT SENT, LONGER THAN", {"max_message": self.peer["max_message"]})
                continue
            self.carried += 1
            self.sent.append(self.carried)
            self.asked.add(self.carried)
            self.send_message("REQUEST", body, id=self.carried, remaining_ms=0, oldest=min(self.asked))
        if not self.asked:
            self.end_with("GOAWAY", code=0, accepted=0, retry_after_ms=0, text="done")

    def on_answer(self, name, answer):
        ident = answer["id"]
        if ident > self.carried:
            raise Violation(f"{name} to nobody: id {ident}")
        if ident in self.unfinished:
            raise Violation(f"id {ident} is in use")
        if ident not in self.asked:
            return
        if self.forget({ident}):
            self.send("CANCEL", id=ident)
        (self.begin if name == "REPLY" else self.complete)(name, answer)

    on_reply = on_error = on_refused = on_answer

    def on_push(self, name, push):
        if push["id"] < TOP_BIT or push["id"] in self.unfinished:
            raise Violation(f"id {push['id']} is {'out of range' if push['id'] < TOP_BIT else 'in use'}")
        self.pushed = max(self.pushed, push["id"])
        self.begin(name, push)

    def complete(self, name, first, body=b""):
        self.show(name, dict(first, body=body))
        if name != "PUSH":
            self.asked.remove(first["id"])
            self.answered += 1
            self.ask()

    def forget(self, idents):
        """Sends no more of these requests; says whether anything was left of them."""
        before, self.long = len(self.long), deque(part for part in self.long if part[0] not in idents)
        return before > len(self.long)

    def on_goaway(self, name, goaway):
        self.show(name, goaway)
        never_run = set(self.sent[goaway["accepted"]:] if goaway["code"] != 2 else self.sent)
        self.bodies.clear()
        self.asked -= never_run
        self.forget(never_run)
        self.ask()

    def is_finished(self):
        return self.ended


# ---- The shell: moves bytes and time -----------------------------------------------------------------------

HANDSHAKE_S, LINGER_S, DRAIN_S, TICK_S = 10, 2, 10, 0.01


class Connection:
    def __init__(self, end, reader, writer):
        self.end, self.reader, self.writer, self.ready = end, reader, writer, asyncio.Event()
        self.heard = self.sent = time.monotonic()
        self.pinged = None              # when a sign of life was asked for, until one comes
        end.wake = self.ready.set
        writer.transport.set_write_buffer_limits(high=MAX_PART)

    async def run(self):
        """Until the end has sent all that it wanted to, or the connection is lost."""
        reading, writing, beating = tasks = [asyncio.ensure_future(work())
                                             for work in (self.read, self.write, self.beat)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if self.end.ended:
                await asyncio.wait([writing], timeout=LINGER_S)
            if writing.done() and not reading.done():
                if not writing.exception():
                    self.writer.write_eof()
                await asyncio.wait([reading], timeout=LINGER_S)     # so that no RST destroys a last frame
        except OSError:
            pass                        # lost while it was being closed
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            self.writer.close()
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, OSError):
                raise result            # a fault of this program

    async def read(self):
        while True:
            data = await self.reader.read(MAX_PART)
            if not data:
                return
            self.heard, self.pinged = time.monotonic(), None
            try:
                self.end.receive(data)
            except Violation as violation:
                print(f"violation: {violation}", file=sys.stderr, flush=True)
                self.end.fail(str(violation))

    async def write(self):
        while True:
            self.ready.clear()
            frame = self.end.next_frame()
            if frame:
                self.writer.write(frame)
                self.sent = time.monotonic()
                await self.writer.drain()
            elif self.end.is_finished():
                return
            else:
                await self.ready.wait()

    async def beat(self):
        """Ends when the peer is dead or has not shaken hands in time."""
        limit, every = time.monotonic() + HANDSHAKE_S, self.end.heartbeat_ms / 1000 or float("inf")
        while self.end.peer or time.monotonic() < limit:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            if not self.end.peer or self.end.ended:
                continue
            if self.pinged and now > self.pinged + 2 * every:
                return print("the peer is dead", file=sys.stderr, flush=True)
            silent = not self.pinged and now > self.heard + every
            shorter = min(every, self.end.peer["heartbeat_every_ms"] / 1000 or float("inf"))
            if silent or now > self.sent + shorter - 2 * TICK_S:
                self.end.send("PING", nonce=time.monotonic_ns())
                self.sent, self.pinged = now, now if silent else self.pinged


# ---- The programs --------------------------------------------------------------------------------------------

async def serve(options):
    instance_id, connections = os.urandom(16), {}
    clients = Clients(options.cached_calls) if options.cached_calls else None

    async def accepted(reader, writer):
        end = Server(instance_id, options.ping_every_ms, options.delay_ms, clients)
        connections[asyncio.current_task()] = end
        try:
            await Connection(end, reader, writer).run()
        finally:
            del connections[asyncio.current_task()]
            if clients:
                clients.leave(end)

    host, _, port = options.listen.rpartition(":")
    listener = await asyncio.start_server(accepted, host, int(port), reuse_address=True, backlog=1024)
    print("listening on %s:%d" % listener.sockets[0].getsockname()[:2], flush=True)
    terminated = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminated.set)
    await terminated.wait()
    listener.close()
    for end in connections.values():
        end.drain()
    if connections:
        await asyncio.wait(list(connections), timeout=DRAIN_S)
    return 0


async def call(options):
    body = options.body.encode()
    if options.size is not None:
        body = (body * (options.size // max(1, len(body)) + 1))[:options.size]

    def show(name, fields):
        if name not in ("REPLY", "ERROR", "REFUSED"):
            return print(name.lower(), fields, file=sys.stderr)
        line = {"ERROR": "error {code} {text}", "REFUSED": "refused {code} {retry_after_ms}",
                "REPLY": "reply {id} {size} {digest}"}[name]
        body = fields["body"]
        line = line.format(**fields, size=len(body), digest=hashlib.sha256(body).hexdigest()).encode()
        sys.stdout.buffer.write((body if name == "REPLY" and options.count == 1 else line) + b"\n")
        sys.stdout.flush()

    client = Client([body] * options.count, show)
    host, _, port = options.to.rpartition(":")
    await Connection(client, *await asyncio.open_connection(host, int(port))).run()
    if client.answered < options.count:
        print(f"{client.answered} of {options.count} calls were answered", file=sys.stderr)
    return 0 if client.answered == options.count else 1


# ---- The vectors ---------------------------------------------------------------------------------------------

WIDE = {field for row in KINDS.values() for field, code in row[1] if code == "Q"} | {"memory"}
BYTES = {"client_id", "instance_id", "body", "data"}
PUSH_ID = TOP_BIT + 1
HELLO = dict(min_version=1, max_version=1, client_id=bytes(range(16)), connection=1, replaces=0,
             max_message=MAX_MESSAGE, heartbeat_every_ms=5_000, give_up_after_ms=10_000, next_id=1)
WELCOME = dict(version=1, instance_id=bytes(range(0xf0, 0x100)), max_message=MAX_MESSAGE, max_in_flight=1_024,
               idle_limit_ms=600_000, heartbeat_every_ms=5_000, cached_calls=4_096, cached_bytes=1 << 33,
               cache_age_ms=60_000, memory=0)
USUAL = dict(HELLO, **{**WELCOME, "flags": [], "id": 1, "remaining_ms": 1_500, "oldest": 1, "total": None,
                       "body": b"one pound", "data": b"goes on", "nonce": 0x0123456789abcdef, "code": 1,
                       "retry_after_ms": 250, "accepted": 0, "text": ""})


def usual(name, **fields):
    """A frame with the fields that do not matter filled in; a `total` sets MORE."""
    if fields.get("total") is not None:
        fields["flags"] = ["MORE", *fields.get("flags", [])]
    return encode(name, **dict(USUAL, **fields))


def as_json(fields):
    """Fields as the vectors write them: u64 as decimal strings, bytes as hex."""
    return {field: str(value) if field in WIDE else value.hex() if field in BYTES else value
            for field, value in fields.items()}


def from_json(fields):
    return {field: int(value) if field in WIDE else bytes.fromhex(value) if field in BYTES else value
            for field, value in fields.items()}


def frame_vectors():
    trailing, latest, u16, u32, u64 = bytes.fromhex("decade"), TOP_BIT - 1, 2**16 - 1, 2**32 - 1, 2**64 - 1
    rows = [    # kind, from, name, the fields that matter
        ("HELLO", "client", "the first of a client", {}),
        ("HELLO", "client", "versions 1 to 3, replaces 7", dict(max_version=3, connection=8, replaces=7, next_id=78)),
        ("HELLO", "client", "no heartbeat", dict(heartbeat_every_ms=0, give_up_after_ms=0)),
        ("HELLO", "client", "greatest numbers", dict(
            min_version=u16, max_version=u16, connection=u64, replaces=u64 - 1, max_message=u32,
            heartbeat_every_ms=u32, give_up_after_ms=u32, next_id=latest)),
        ("WELCOME", "server", "with a cache", {}),
        ("WELCOME", "server", "no cache, no limits", dict(
            idle_limit_ms=0, heartbeat_every_ms=0, cached_calls=0, cached_bytes=0, cache_age_ms=0)),
        ("WELCOME", "server", "a memory", dict(memory=3)),
        ("WELCOME", "server", "greatest memory", dict(memory=u64)),
        ("BUSY", "server", "too many connections", dict(code=1, text="full")),
        ("BUSY", "server", "draining, no text", dict(code=2, retry_after_ms=0)),
        ("REJECT", "server", "no common version", dict(code=1, text="only version 1 here")),
        ("REJECT", "server", "text beyond ASCII", dict(code=3, text="Zutritt für Gäste: нет 🚫")),
        ("REQUEST", "client", "no deadline, empty body", dict(remaining_ms=0, body=b"")),
        ("REQUEST", "client", "REPEATABLE", dict(flags=["REPEATABLE"], id=300, oldest=299)),
        ("REQUEST", "client", "RESENT", dict(flags=["RESENT"], id=300, oldest=299)),
        ("REQUEST", "client", "all flags, greatest numbers", dict(
            flags=["REPEATABLE", "RESENT"], id=latest, oldest=latest, remaining_ms=u32, total=u32)),
        ("ERROR", "server", "text", dict(code=404, text="no apples")),
        ("ERROR", "server", "the handler panicked", dict(id=2, code=0xffff0000)),
        ("ERROR", "server", "the reply is too long", dict(id=2, code=0xffff0001)),
        ("ERROR", "server", "it ran, the reply is lost", dict(id=2, code=0xffff0002)),
        ("ERROR", "server", "it may have run, it is forgotten", dict(id=2, code=0xffff0003)),
        ("ERROR", "server", "text beyond ASCII", dict(text="keine Äpfel – 没有苹果")),
        ("REFUSED", "server", "overloaded", dict(code=1)),
        ("REFUSED", "server", "longer than max message", dict(id=9, code=5, retry_after_ms=0)),
        ("CHUNK", "both", "not the last", {}),
        ("CHUNK", "both", "LAST", dict(flags=["LAST"])),
        ("CHUNK", "server", "LAST of a push", dict(flags=["LAST"], id=PUSH_ID, data=b"\xff")),
        ("CANCEL", "client", "plain", {}), ("PING", "both", "plain", {}), ("PONG", "both", "plain", {}),
        ("GOAWAY", "server", "closing, 12 accepted", dict(code=0, accepted=12, text="shutting down")),
        ("GOAWAY", "client", "closing", dict(code=0, retry_after_ms=0)),
        ("GOAWAY", "server", "idle", dict(code=1, retry_after_ms=0)),
        ("GOAWAY", "both", "violation", dict(code=2, retry_after_ms=0, text="empty frame"))]
    for kind, sender, ident in (("REQUEST", "client", 1), ("REPLY", "server", 1), ("NOTIFY", "client", 3),
                                ("PUSH", "server", PUSH_ID)):
        rows += [(kind, sender, "plain", dict(id=ident)), (kind, sender, "empty body", dict(id=ident, body=b"")),
                 (kind, sender, "MORE", dict(id=ident, total=70_000, body=b"begins"))]
    frames = [(kind, sender, name, usual(kind, **fields)) for kind, sender, name, fields in rows]
    # What no sender of today makes, and every receiver takes.
    frames += [(kind, sender, "trailing bytes", raw(usual(kind)[4:] + trailing)) for kind, sender in (
        ("HELLO", "client"), ("WELCOME", "server"), ("CANCEL", "client"), ("REFUSED", "server"),
        ("PING", "both"), ("PONG", "both"))]
    frames += [("WELCOME", "server", name, raw(usual("WELCOME")[4:] + tail)) for name, tail in (
        ("a memory that is 0", bytes(8)), ("a memory cut short", bytes.fromhex("00000000000003")),
        ("a memory and trailing bytes", bytes.fromhex("0000000000000003") + trailing))]
    frames += [(kind, sender, "unknown flags", usual(kind)[:5] + b"\xf8" + usual(kind)[6:]) for kind, sender in (
        ("REQUEST", "client"), ("REPLY", "server"), ("CHUNK", "both"), ("NOTIFY", "client"))]
    frames += [("ERROR", "server", "text that is not UTF-8", raw(usual("ERROR")[4:] + b"caf\xe9!")),
               ("0x80", "both", "unknown, ignored", raw(b"\x80" + trailing)),
               ("0xff", "both", "unknown, ignored, no more than its kind", raw(b"\xff"))]
    entries = []
    for kind, sender, name, frame in sorted(frames, key=lambda row: row[3][4]):
        fields = decode(kind, frame[4:]) if kind in KINDS else {}
        same = {} if kind in KINDS and encode(kind, **fields) == frame else {"reencode": False}
        entries.append({"name": f"{kind}, {name}", "from": sender, "kind": kind, "fields": as_json(fields),
                        "hex": frame.hex(), **same})
    return entries


def violation_vectors():
    rows = []       # name, to, after the handshake, bytes, text
    for to, after, names in (("server", False, Server.EXPECTED_FIRST), ("server", True, Server.EXPECTED),
                             ("client", False, Client.EXPECTED_FIRST), ("client", True, Client.EXPECTED)):
        rows += [(name, to, after, frames, text) for name, frames, text in (
            ("length 0", bytes(4), "empty frame"),
            ("length 65601", bytes.fromhex("00010041"), "frame of 65601 bytes exceeds the limit of 65600"),
            ("greatest length", b"\xff" * 4, "frame of 4294967295 bytes exceeds the limit of 65600"),
            ("kind 0x00", raw(b"\x00"), "unknown kind 0x00"),
            ("kind 0x7f", raw(b"\x7fxyz"), "unknown kind 0x7f"))]
        for name, row in KINDS.items():
            short = row[3].size - 1
            rows.append((f"{name} one byte short", to, after, raw(usual(name)[4:4 + short]),
                         f"{name} of {short} bytes is too short") if name in names else
                        (f"{name} out of place", to, after, usual(name), f"unexpected {name}"))
    rows += [("HTTP", "server", False, b"GET / HTTP/1.1\r\n\r\n",
              "frame of 1195725856 bytes exceeds the limit of 65600"),
             ("wrong magic", "server", False, usual("HELLO").replace(MAGIC, b"STEADFAS"), "not a steadfast HELLO")]
    for to, kind, ident in (("server", "REQUEST", 1), ("server", "NOTIFY", 1), ("client", "REPLY", 1),
                            ("client", "PUSH", PUSH_ID)):
        def first(total, body=b"abcd"):
            return usual(kind, id=ident, total=total, body=body)

        def chunk(data, *flags):
            return usual("CHUNK", id=ident, data=data, flags=flags)

        short = KINDS[kind][3].size + 3
        rows += [(f"{kind}, {name}", to, True, frames, text) for name, frames, text in (
            ("total cut short", raw(first(10)[4:4 + short]), f"{kind} of {short} bytes is too short"),
            ("total below the first part", first(3), "message of 3 bytes announced, 4 came"),
            ("total equal to the first part", first(4), "message of 4 bytes announced, 4 came"),
            ("empty first part", first(10, b""), "message of 10 bytes announced, 0 came"),
            ("more than announced", first(10) + chunk(b"efgh") + chunk(b"ijk", "LAST"),
             "message of 10 bytes announced, 11 came"),
            ("all without LAST", first(10) + chunk(b"efghij"), "message of 10 bytes announced, 10 came"),
            ("less than announced", first(10) + chunk(b"efgh", "LAST"), "message of 10 bytes announced, 8 came"),
            ("empty CHUNK", first(10) + chunk(b"efgh") + chunk(b""), "message of 10 bytes announced, 8 came"))]
        if to == "client":
            rows.append((f"{kind}, total above max message", to, True, first(MAX_MESSAGE + 1),
                         "message of 1048577 bytes exceeds the limit of 1048576"))
        if kind != "REPLY":
            many = b"".join(usual(kind, id=ident + i, total=2, body=b"x") for i in range(17))
            rows.append((f"a 17th unfinished {kind}", to, True, many, "more than 16 unfinished messages"))
        if to == "server":
            begun = first(10)
            rows += [(f"{kind}, {name}", to, True, frames, text) for name, frames, text in (
                ("id of an unfinished REQUEST", usual("REQUEST", total=99) + usual(kind), "id 1 is in use"),
                ("id of an unfinished NOTIFY", usual("NOTIFY", total=99) + usual(kind), "id 1 is in use"),
                ("id 0", usual(kind, id=0), "id 0 is out of range"),
                ("top bit set", usual(kind, id=PUSH_ID), f"id {PUSH_ID} is out of range"),
                ("CHUNK of another id", begun + usual("CHUNK", id=2), "CHUNK to nobody: id 2"))]
    rows += [("CHUNK of nothing", "server", True, usual("CHUNK"), "CHUNK to nobody: id 1"),
             ("CHUNK of no push", "client", True, usual("CHUNK", id=PUSH_ID), f"CHUNK to nobody: id {PUSH_ID}"),
             ("PUSH, top bit clear", "client", True, usual("PUSH"), "id 1 is out of range")]
    rows += [(f"{kind} to nobody", "client", True, usual(kind, id=3), f"{kind} to nobody: id 3")
             for kind in ("REPLY", "ERROR", "REFUSED", "CHUNK")]
    pushed = usual("PUSH", id=PUSH_ID, total=99)
    for kind in ("REPLY", "ERROR", "REFUSED"):
        rows += [(f"{kind}, id of an unfinished REPLY", "client", True, usual("REPLY", total=99) + usual(kind),
                  "id 1 is in use"),
                 (f"{kind}, id of an unfinished PUSH", "client", True, pushed + usual(kind, id=PUSH_ID),
                  f"{kind} to nobody: id {PUSH_ID}")]
    rows += [("REPLY, MORE, id of an unfinished REPLY", "client", True, usual("REPLY", total=99) * 2,
              "id 1 is in use"),
             ("PUSH, id of an unfinished PUSH", "client", True, pushed * 2, f"id {PUSH_ID} is in use")]
    return [{"name": f"{name} ({to}, {'after' if after else 'in'} the handshake)", "to": to,
             "after_handshake": after, "hex": frames.hex(), "text": text}
            for name, to, after, frames, text in rows]


async def vectors(_):
    """Prints one vector a line, so that a difference between two versions can be read."""
    parts = [f'"{part}": [\n' + ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries) + "\n]"
             for part, entries in (("frames", frame_vectors()), ("violations", violation_vectors()))]
    sys.stdout.buffer.write(("{\n\"version\": 1,\n" + ",\n".join(parts) + "\n}\n").encode())
    return 0


def frame_difference(entry):
    """What is wrong with one of the frames, None if nothing."""
    data = bytes.fromhex(entry["hex"])
    try:
        name, payload = cut_frame(bytearray(data))
        fields = as_json(decode(name, payload)) if name else {}
    except Violation as violation:
        return f"a violation: {violation}"
    if payload is None or raw(payload) != data:
        return "not one whole frame"
    kind = name or f"0x{payload[0]:02x}"
    if (kind, fields) != (entry["kind"], entry["fields"]):
        return f"decodes as {kind} {fields}"
    again = encode(kind, **from_json(entry["fields"])) if name else None
    return None if (again == data) == entry.get("reencode", True) else f"encodes as {again}"


def violation_difference(entry):
    """What is wrong with one of the violations, None if nothing."""
    end = Server() if entry["to"] == "server" else Client([b"x", b"x"])
    if entry["after_handshake"]:
        end.receive(usual("HELLO" if entry["to"] == "server" else "WELCOME"))
    try:
        end.receive(bytes.fromhex(entry["hex"]))
    except Violation as violation:
        return None if str(violation) == entry["text"] else f"the text is {violation}"
    return "no violation"


async def check_vectors(options):
    with open(options.file, encoding="utf-8") as file:
        document = json.load(file)
    found = [(entry["name"], frame_difference(entry)) for entry in document["frames"]]
    found += [(entry["name"], violation_difference(entry)) for entry in document["violations"]]
    wrong = [f"{name}: {difference}" for name, difference in found if difference]
    print(*wrong, f"{len(found)} vectors, {len(wrong)} differ", sep="\n")
    return 1 if wrong or not found else 0


def main():
    parser = argparse.ArgumentParser(description="a peer for steadfast's Native protocol, version 1")
    modes = parser.add_subparsers(dest="mode", required=True)

    def mode(name, run, text):
        added = modes.add_parser(name, help=text)
        added.set_defaults(run=run)
        return added.add_argument

    option = mode("serve", serve, "echo; 'error CODE TEXT', 'refuse CODE RETRY_MS', 'push TEXT'; with a cache also "
                  "'lose TEXT': the connection ends before the answer, 'forget TEXT': and the client is forgotten")
    option("--listen", required=True, metavar="HOST:PORT", help="port 0: any")
    option("--delay-ms", type=int, default=0, help="how long each request takes")
    option("--ping-every-ms", type=int, default=5_000, help="0: never")
    option("--cached-calls", type=int, default=0, help="answers kept for each client; 0: no reply cache")
    option = mode("call", call, "calls, pipelined; status 0 if all were answered")
    option("--to", required=True, metavar="HOST:PORT")
    option("--count", type=int, default=1)
    option("--size", type=int, help="repeat BODY up to so many bytes")
    option("body", metavar="BODY")
    mode("vectors", vectors, "print docs/protocol-vectors.json")
    mode("check-vectors", check_vectors, "status 0 if this peer agrees with all of FILE")("file", metavar="FILE")
    options = parser.parse_args()
    sys.exit(asyncio.run(options.run(options)))


if __name__ == "__main__":
    main()
