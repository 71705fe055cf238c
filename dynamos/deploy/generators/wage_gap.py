"""Makes the data of the marketplace `wage-gap`: invented university staff, with the sizes that upstream published.

No real person is in it. A seeded program invents people, then steers the invented counts and salary scales until the
numbers that upstream's users know from their demonstration come out exactly (REFERENCE, checked by tests/data):

- rows and persons of each file; women and men among the rows of Personen;
- the size of the join of both tables, and the mean salary scale of men and of women in it: at each university, over
  both, and with either one counted twice (upstream's defect, which its users may want to recognise);
- the mean of upstream's README query, which crosses the first person (a woman) with the first 1000 appointments;
- the number of distinct rows of upstream's six-column query.

The files are as awkward as upstream's: semicolons, dates as whole numbers, leading zeros, Personen with CR CR LF at the
ends of its lines and Aanstellingen with a bare CR.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

YEARS = (2017, 2018, 2019, 2020)
README_ROWS = 1000
UNKNOWN_SCALE = 99
HIGHEST_SCALE = 18
PERSON_COLUMNS = "Instcode;Unieknr;Geslacht;Gebdat;Nationaliteit;BKO;SKO;Peildat"
APPOINTMENT_COLUMNS = (
    "Instcode;Unieknr;Volgnrar;Aadnstvb;Ingdatdv;Eindatdv;HOOPgeb;Functcat;WelGeenHGL;Salschal;Taakomv;Aanst_22;Peildat"
)
FUNCTIONS = ("PROM", "OND2", "OND1", "DOC2", "DOC1", "UD2", "UD1", "UHD2", "UHD1", "HGL2", "HGL1", "OBP")
AREAS = ("LB", "NA", "TE", "GZ", "EC", "RE", "GM", "TL")


@dataclass(frozen=True, slots=True)
class Group:
    """One sex at one university. `rows` are those of Personen, `joined` those of the join, with their `mean` scale."""

    sex: str
    persons: int
    rows: int
    appointments: int
    joined: int
    mean: float


@dataclass(frozen=True, slots=True)
class University:
    """What has to come out at one university. `stays` weighs in how many of the four years people are there.

    `corrected` is the share of repeated people whose day of birth was corrected from one year to another.
    """

    party: str
    code: str
    digits: int
    lowest: int
    groups: tuple[Group, ...]
    readme_sum: int
    distinct: int
    stays: tuple[float, float, float, float]
    corrected: float


# How the joined rows divide by sex is not published; this division is one for which every published mean is right.
REFERENCE = (
    University(
        "UVA", "AAA", 5, 3,
        (Group("V", 5561, 10123, 10467, 20212, 10.597), Group("M", 4341, 7903, 8172, 15347, 11.877)),
        11115, 25163, (0.48, 0.29, 0.16, 0.07), 0.6,
    ),
    University(
        "VU", "DDD", 9, 1,
        (Group("V", 2954, 8384, 8595, 29201, 9.657), Group("M", 2759, 7833, 8031, 27282, 10.955)),
        10626, 8204, (0.28, 0.11, 0.10, 0.51), 0.0,
    ),
)  # fmt: skip
SEED = 20230801


@dataclass(slots=True)
class Post:
    """What one person is for some of the appointments; `rows` of them."""

    function: str
    funding: int
    scale: int
    rows: int = 1


@dataclass(slots=True)
class Person:
    """One invented person: `stays` rows in Personen, `appointments` rows in Aanstellingen."""

    sex: str
    stays: int
    appointments: int
    number: int = 0
    births: list[int] = field(default_factory=lambda: [0])
    posts: list[Post] = field(default_factory=list)
    want_posts: int = 1
    want_births: int = 1


def write(folder: Path) -> None:
    """Write Personen_<party>.csv and Aanstellingen_<party>.csv into a folder of each university."""
    for university in REFERENCE:
        chance = random.Random(f"{SEED}-{university.party}")  # noqa: S311  no secret
        people = _people(university, chance)
        target = folder / university.party
        target.mkdir(parents=True)
        persons = _person_rows(university, people, chance)
        appointments = _appointment_rows(university, people, chance)
        _save(target / f"Personen_{university.party}.csv", [PERSON_COLUMNS, *persons], "\r\r\n")
        _save(target / f"Aanstellingen_{university.party}.csv", [APPOINTMENT_COLUMNS, *appointments], "\r")
    for party in ("RUG", "SURF"):
        (folder / party).mkdir(parents=True)


def _save(path: Path, lines: list[str], end: str) -> None:
    path.write_bytes("".join(line + end for line in lines).encode("ascii"))


def _people(university: University, chance: random.Random) -> list[Person]:
    """Invent the people of a university so that every count and sum is as published."""
    people = [person for group in university.groups for person in _group(group, university, chance)]
    chance.shuffle(people)
    low = 10 ** (university.digits - 1)
    for person, number in zip(people, chance.sample(range(low, 10 * low), len(people)), strict=True):
        person.number = number
    _vary(people, university, chance)
    for person in people:
        _live(person, university, chance)
    for group in university.groups:
        _pay([one for one in people if one.sex == group.sex], round(group.mean * group.joined), university, chance)
    first_woman = next(index for index, one in enumerate(people) if one.sex == "V")
    people.insert(0, people.pop(first_woman))
    return people


def _group(group: Group, university: University, chance: random.Random) -> list[Person]:
    """Invent people of one sex with the right totals of rows, appointments and joined rows."""
    stays = _spread(chance.choices(range(1, 5), university.stays, k=group.persons), group.rows, 1, 4, chance)
    appointments = _spread(list(stays), group.appointments, 1, 8, chance)
    joined = sum(a * b for a, b in zip(stays, appointments, strict=True))
    while joined != group.joined:  # exchanging two people's appointments changes the join, and no total
        one, two = chance.randrange(group.persons), chance.randrange(group.persons)
        gain = (stays[one] - stays[two]) * (appointments[two] - appointments[one])
        if 0 < gain <= group.joined - joined or group.joined - joined <= gain < 0:
            appointments[one], appointments[two] = appointments[two], appointments[one]
            joined += gain
    return [Person(group.sex, *counts) for counts in zip(stays, appointments, strict=True)]


def _spread(counts: list[int], total: int, low: int, high: int, chance: random.Random) -> list[int]:
    """Raise or lower counts, one by one, until they add up to `total`."""
    missing = total - sum(counts)
    step = 1 if missing > 0 else -1
    while missing:
        index = chance.randrange(len(counts))
        if low <= counts[index] + step <= high:
            counts[index] += step
            missing -= step
    return counts


def _vary(people: list[Person], university: University, chance: random.Random) -> None:
    """Decide how many posts and days of birth people have, so that the six-column query has its distinct rows."""
    missing = university.distinct - len(people)
    while missing:
        person = chance.choice(people)
        if chance.random() < university.corrected:
            if person.want_births < person.stays and person.want_posts <= missing:
                person.want_births += 1
                missing -= person.want_posts
        elif person.want_posts < person.appointments and person.want_births <= missing:
            person.want_posts += 1
            missing -= person.want_births


def _live(person: Person, university: University, chance: random.Random) -> None:
    """Invent a person's days of birth and career: one post after the other, no two alike."""
    month = chance.randrange(1952, 1997) * 10000 + chance.randrange(1, 13) * 100
    person.births = [month + day for day in chance.sample(range(1, 29), person.want_births)]
    step, funding = chance.randrange(len(FUNCTIONS)), chance.randrange(1, 4)
    middle = next(group.mean for group in university.groups if group.sex == person.sex)
    for _ in range(person.want_posts):
        scale = min(max(round(chance.gauss(middle + (step - 5.5) * 0.4, 1.8)), university.lowest), HIGHEST_SCALE)
        scale = UNKNOWN_SCALE if chance.random() < 0.003 else scale  # noqa: PLR2004  as rare as in staff files
        person.posts.append(Post(FUNCTIONS[step], funding, scale))
        if step + 1 < len(FUNCTIONS) and chance.random() < 0.7:  # noqa: PLR2004  most changes are promotions
            step += 1
        else:
            funding += 3
    for _ in range(person.appointments - person.want_posts):
        chance.choice(person.posts).rows += 1


def _pay(people: Sequence[Person], total: int, university: University, chance: random.Random) -> None:
    """Move scales up or down by one until they add up to `total` over the joined rows."""
    weighed = [(post, person.stays) for person in people for post in person.posts]
    missing = total - sum(post.scale * post.rows * stays for post, stays in weighed)
    step = 1 if missing > 0 else -1
    while missing:
        post, stays = chance.choice(weighed)
        weight = post.rows * stays
        if university.lowest <= post.scale + step <= HIGHEST_SCALE and weight <= abs(missing):
            post.scale += step
            missing -= step * weight


def _person_rows(university: University, people: Sequence[Person], chance: random.Random) -> list[str]:
    """Write people once for every year that they were there; the first row is a woman's."""
    rows = []
    for person in people:
        nation = chance.choices(("0001", "0055", "0064", "0263", "0336"), (80, 6, 5, 5, 4))[0]
        marks = f"{chance.choice('JN')};{'J' if chance.random() < 0.1 else 'N'}"  # noqa: PLR2004
        for index, year in enumerate(_years(person.stays, chance)):
            birth = person.births[index % len(person.births)]
            rows.append(f"{university.code};{person.number};{person.sex};{birth};{nation};{marks};{year}1231")
    return rows


def _appointment_rows(university: University, people: Sequence[Person], chance: random.Random) -> list[str]:
    """Write appointments in any order, but the first 1000 with the sum of scales that the README query needs."""
    rows = [
        (post.scale, _appointment(university, person, post, number, chance))
        for person in people
        for number, post in enumerate((post for post in person.posts for _ in range(post.rows)), 1)
    ]
    chance.shuffle(rows)
    missing = university.readme_sum - sum(scale for scale, _ in rows[:README_ROWS])
    while missing:
        one, two = chance.randrange(README_ROWS), chance.randrange(README_ROWS, len(rows))
        gain = rows[two][0] - rows[one][0]
        if 0 < gain <= missing or missing <= gain < 0:
            rows[one], rows[two] = rows[two], rows[one]
            missing -= gain
    return [row for _, row in rows]


def _appointment(university: University, person: Person, post: Post, number: int, chance: random.Random) -> str:
    year = chance.choice(YEARS)
    begin = f"{chance.randrange(1985, year)}{chance.randrange(1, 13):02}01"
    end = "20991231" if chance.random() < 0.6 else f"{chance.randrange(year + 1, 2027)}1231"  # noqa: PLR2004
    professor = "HGL" if post.function.startswith("HGL") else "geenHGL"
    members = (
        university.code, person.number, number, chance.choice("TV"), begin, end, chance.choice(AREAS), post.function,
        professor, post.scale, chance.choice(("0.2", "0.5", "0.6", "0.8", "1.0", "1.0")), post.funding, f"{year}1231",
    )  # fmt: skip
    return ";".join(str(member) for member in members)


def _years(count: int, chance: random.Random) -> Sequence[int]:
    first = chance.randrange(0, len(YEARS) - count + 1)
    return YEARS[first : first + count]
