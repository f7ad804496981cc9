"""Every byte between a site and its server is counted, once and in its direction."""

import json
import socket
import time
from threading import Thread

import pytest

from shared.encoder import load_base
from simulations.bench.deployed import HERE, counting, free_port
from simulations.bench.wire import (
    COMPRESSED,
    LEAST_TIMES,
    PLAIN,
    full_model,
    lines,
    measure,
)


def answering(listening: socket.socket, answer: bytes) -> None:
    """Hear one connection to its end, answer it, and hang up."""
    taken, _ = listening.accept()
    with taken:
        while taken.recv(1 << 16):
            pass
        taken.sendall(answer)


def exchanged(port: int, said: bytes) -> bytes:
    """What is heard of a port after all was said."""
    heard = b""
    with socket.create_connection((HERE, port)) as talking:
        talking.sendall(said)
        talking.shutdown(socket.SHUT_WR)
        while part := talking.recv(1 << 16):
            heard += part
    return heard


def test_bytes_pass_unchanged_and_are_counted_by_direction() -> None:
    begin, said, answer = time.time(), b"u" * 1_000_001, b"d" * 70_000
    with socket.create_server((HERE, 0)) as listening:
        server = Thread(target=answering, args=(listening, answer))
        server.start()
        with counting(listening.getsockname()[1]) as counter:
            heard = exchanged(counter.port, said)
        server.join()
    passed = counter.between(begin, time.time() + 1)

    assert heard == answer
    assert (passed.up, passed.down) == (len(said), len(answer))
    assert counter.between(begin - 10, begin).up == 0


def test_a_connection_is_closed_while_nobody_is_behind_the_counter() -> None:
    with counting(free_port()) as counter:
        heard = [exchanged(counter.port, b"") for _ in range(2)]

    assert heard == [b"", b""]


def test_a_full_model_is_all_its_values_and_little_more() -> None:
    size, values = full_model("tiny")

    assert values == sum(p.numel() for p in load_base("tiny").model.parameters())
    assert 4 * values < size < 4 * values + 20_000


@pytest.mark.exhaustive
def test_two_small_runs_of_a_real_deployment_are_counted() -> None:
    figures = measure("tiny", rounds=2, idle_s=4.0)

    assert json.loads(json.dumps(figures)) == figures
    assert figures["limits"]["times_below_full_model"] == LEAST_TIMES
    for wire in (PLAIN, COMPRESSED):
        one = figures[wire]
        assert one["up"] > one["message_up"] > 0
        assert one["first_round_down"] > one["down"] > one["message_down"] > 0
    assert figures[COMPRESSED]["message_up"] < figures[PLAIN]["message_up"]
    assert figures["tcp_up"] == figures[PLAIN]["up"]
    assert figures["bytes_up"] == figures[PLAIN]["message_up"]
    assert figures["bytes_up_compressed"] == figures[COMPRESSED]["message_up"]
    assert figures["idle"]["up_per_minute"] > 0
    assert f"{figures['bytes_up']:,} bytes up" in lines(figures)[0]
