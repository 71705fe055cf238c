"""What a link's impairments are in the words of tc, how guests are told, and what is missing for one."""

import os
import threading

import pytest

from dynamos.kit.errors import BadInput, NotFound, TimedOut, Unavailable
from dynamos.model.networks import Direction
from dynamos.testbed import guests, impairments, launches
from dynamos.testbed.cables import Cable
from dynamos.testbed.consoles import Console
from dynamos.testbed.hosts import Completed
from dynamos.testbed.wan_states import Laid, WanState
from support.wans import laid, link


def test_a_direction_waits_in_a_queue_and_then_is_on_its_way():
    direction = Direction(delay="70ms", jitter="2ms", loss="0.5%", reorder="1%", rate="100mbit", queue=300)
    outer, rate, queue = impairments.queue(direction, "e0a", 1500)
    assert outer.startswith("qdisc replace dev e0a root handle 1: tbf rate 40gbit burst 2422 ")
    assert rate.startswith("qdisc replace dev e0a parent 1:1 handle 2: tbf rate 100000000bit burst 50000 ")
    assert queue == "qdisc replace dev e0a parent 2:1 handle 3: pfifo limit 300"
    [way] = impairments.way(direction, "vec1")
    assert way == (
        "qdisc replace dev vec1 root handle 1: netem limit 7813 delay 70000us 2000us distribution normal "
        "loss 0.5% reorder 1% gap 1 rate 100gbit"
    )


def test_large_pieces_pass_whole_only_where_nothing_counts_packets():
    def burst(**members: object) -> str:
        return impairments.queue(Direction(**members), "e0a", 1500)[0].split("burst ")[1].split()[0]

    assert burst(delay="5ms") == burst() == "70000"
    for member in ({"loss": "1%"}, {"rate": "1gbit"}, {"jitter": "1ms"}, {"reorder": "1%"}):
        assert burst(**member) == "2422"


@pytest.mark.parametrize("mtu", [576, 1280, 1500, 9000, 9216])
def test_what_cuts_pieces_lets_one_packet_pass_and_never_two_in_one(mtu):
    burst = int(impairments.queue(Direction(loss="1%"), "e0a", mtu)[0].split("burst ")[1].split()[0])
    two_segments = 2 * (mtu - 52) + 66
    assert mtu + 14 <= burst < two_segments


def test_what_is_on_its_way_fits_within_the_limit():
    def limit(**members: object) -> int:
        return int(impairments.way(Direction(**members), "x")[0].split("limit ")[1].split()[0])

    assert limit(delay="100ms", rate="1gbit") >= 0.1 * 1e9 / 8 / 1514
    assert limit() == limit(delay="1us") > 0
    assert limit(delay="10s") == limit(delay="20s")  # memory has an end


def test_only_what_needs_netem_gets_it():
    assert not impairments.needs_netem(Direction(rate="1mbit", queue=5))
    for member in ({"delay": "1ms"}, {"jitter": "1ms"}, {"loss": "1%"}, {"reorder": "1%"}):
        assert impairments.needs_netem(Direction(**member))
    with pytest.raises(BadInput) as caught:
        impairments.check(Direction(reorder="1%"), "link a-b")
    assert (caught.value.where, caught.value.hint) == ("link a-b", "give the link a delay")


def test_a_guest_begins_with_all_that_its_links_are_but_cut_ones_stay_down():
    item = laid(link("ams", "lax", delay="5ms", backward={"delay": "9ms"}), 0)
    cable = Cable(item, slot=33, kind="guest")
    assert (cable.guest, cable.ends, cable.device) == (1, ("e33a", "e33b"), "wan33")
    assert cable.ip == ["link set vec2 up", "link set vec3 up"]
    assert ["delay 9000us" in cable.tc[0], "delay 5000us" in cable.tc[1]] == [True, True]
    cut = Cable(item.model_copy(update={"state": "cut"}), slot=33, kind="guest")
    assert cut.ip == []
    assert cut.tc == cable.tc


def test_a_guests_kernel_has_a_device_for_each_end_and_takes_all_its_words():
    words = launches.arguments(1)
    devices = [word for word in words if word.startswith("vec")]
    assert devices[0] == "vec0:transport=tap,ifname=e32a,gro=1"
    assert len(devices) == 2 * launches.PAIRS
    assert len(" ".join(words)) < 4096  # what a kernel of today takes
    assert len(launches.filter_code()) == 9 * 8


class Machine:
    """Where commands are said to find these programs missing."""

    name = "wan"

    def __init__(self, *lacks: str) -> None:
        self._lacks = lacks

    def run(self, argv, **_: object) -> Completed:
        return Completed(tuple(argv), 0, "\n".join(self._lacks).encode(), b"")


def test_the_package_that_a_guest_needs_is_named(monkeypatch):
    assert guests.missing(Machine()) == []
    with pytest.raises(Unavailable) as caught:
        guests.require(Machine("linux.uml", "modprobe"))
    assert "linux.uml" in caught.value.message
    assert "user-mode-linux" in caught.value.hint
    machine = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((*machine[:4], "aarch64")))
    assert "x86_64" in guests.missing(Machine())[0].message


class Guest(threading.Thread):
    """The far end of a console: answers each line with what it is told to."""

    def __init__(self, console: Console, *answers: str) -> None:
        super().__init__(daemon=True)
        self._console = console
        self._answers = list(answers)
        self.heard: list[str] = []

    def run(self) -> None:
        with self._console.ends() as (into, out):
            os.set_blocking(into, True)
            for answer in self._answers:
                line = b""
                while not line.endswith(b"\n"):
                    line += os.read(into, 1)
                number, said = line.decode().rstrip().split(" ", 1)
                self.heard.append(said)
                os.write(out, f"{answer.format(number=number)}\n".encode())


def test_a_console_is_answered_by_number_and_long_words_go_in_parts(tmp_path):
    console = Console(tmp_path / "guest")
    console.make()
    with console.ends() as (_, out):
        os.write(out, b"ready 1 something of long ago\n")  # nobody has heard it, and nobody shall
        lines = [f"qdisc replace dev vec{number} root netem delay 1000us" for number in range(100)]
        guest = Guest(console, "other 1 not for us\n{number} 0", "{number} 0", "{number} 2 Error: no such device")
        guest.start()
        console.tell("tc", lines)
        with pytest.raises(Unavailable, match="refused: Error: no such device"):
            console.tell("ip", ["link set vec0 up"])
        guest.join(timeout=10)
    assert len(guest.heard) == 3
    told = ";".join(said.removeprefix("tc ") for said in guest.heard[:2])
    assert told.split(";") == lines


def test_a_guest_that_does_not_answer_is_told_of(tmp_path):
    console = Console(tmp_path / "guest")
    console.make()
    with console.ends(), pytest.raises(TimedOut, match="did not answer"):
        console.tell("ip", ["link set vec0 up"], within=0.05)


def test_links_are_found_by_their_sites_in_either_order_and_take_the_first_free_slot():
    def there(name: tuple[str, str], slot: int) -> Laid:
        item = laid(link(*name), slot)
        return Laid(declared=item, present=item, slot=slot, kind="guest")

    state = WanState(kernel=False).with_links([there(("ams", "lax"), 0), there(("lax", "new-york"), 2)])
    assert state.link("new-york-lax").slot == 2
    assert (state.free_slot(), state.free_slot(taken=[1])) == (1, 3)
    assert [cable.slot for cable in state.on_guest(0)] == [0, 2]
    with pytest.raises(NotFound) as caught:
        state.link("ams-lay")
    assert "ams-lax" in caught.value.hint
    assert WanState.model_validate_json(state.model_dump_json(by_alias=True)) == state
