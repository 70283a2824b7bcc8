"""Traces: each format is read as it is documented, and what is wrong is named with its line."""

import csv
import json
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
from alone import num_findable, serve_alone
from trace_samples import FOLDER, SAMPLES, sample

from jpaged.errors import ConfigError
from jpaged.scheduling.terms import Terms
from jpaged.simulator.workload import VOCAB, from_trace, mix, summary

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
ROW = {"timestamp": 0, "input_length": 1000, "output_length": 5, "hash_ids": [0, 1]}


def rows(name: str) -> list[dict]:
    text = (FOLDER / name).read_text()
    if name.endswith("jsonl"):
        return [json.loads(line) for line in text.splitlines()]
    return list(csv.DictReader(text.splitlines()))


def lengths(workload) -> list[tuple[int, int]]:
    return [(len(each.prompt), each.num_output) for each in workload]


def gaps(workload) -> list[float]:
    return [after.arrival - before.arrival for before, after in pairwise(workload)]


def written(folder: Path, text: str, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def jsonl(folder: Path, *changes: dict) -> Path:
    return written(folder, "\n".join(json.dumps(ROW | each) for each in changes), "t.jsonl")


@pytest.mark.parametrize("name", SAMPLES)
def test_the_samples_are_what_their_generator_makes(name):
    assert (FOLDER / name).read_bytes().decode() == sample(name)


@pytest.mark.parametrize("name", ["azure_2023.csv", "azure_2024.csv"])
def test_azure_traces_are_dates_and_lengths(name):
    workload = from_trace(FOLDER / name)
    found = rows(name)
    assert lengths(workload) == [
        (int(row["ContextTokens"]), int(row["GeneratedTokens"])) for row in found
    ]
    dates = [datetime.fromisoformat(row["TIMESTAMP"]) for row in found]
    seconds = [(date - dates[0]).total_seconds() for date in dates]
    assert [each.arrival for each in workload] == pytest.approx(seconds, abs=1e-6)
    assert workload[-1].arrival > 10  # also beyond midnight


def test_dates_without_a_zone_are_utcs_and_months_end(tmp_path):
    dates = ["2023-11-30 23:59:59", "2023-12-01 00:00:01.5000000", "2023-12-01 02:00:03+02:00"]
    path = written(tmp_path, AZURE + "".join(f"{date},5,6\n" for date in dates))
    assert [each.arrival for each in from_trace(path)] == pytest.approx([0.0, 2.5, 4.0])


def test_burstgpt_traces_are_seconds_and_failures_are_left_out():
    workload = from_trace(FOLDER / "burstgpt.csv")
    found = [row for row in rows("burstgpt.csv") if row["Response tokens"] != "0"]
    assert len(workload) == len(found) == 27
    assert lengths(workload) == [
        (int(row["Request tokens"]), int(row["Response tokens"])) for row in found
    ]
    start = int(found[0]["Timestamp"])
    assert [each.arrival for each in workload] == [int(row["Timestamp"]) - start for row in found]


def test_burstgpt_sessions_are_known_where_they_are_given(tmp_path):
    text = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens\n"
    path = written(tmp_path, text + "5,ab-1,2.5,GPT-4,10,20\n6,,1,GPT-4,11,21\n")
    assert [each.terms.session for each in from_trace(path)] == ["ab-1", ""]


@pytest.mark.parametrize(
    ("name", "size", "unit"), [("mooncake.jsonl", 512, 1e-3), ("bailian.jsonl", 16, 1.0)]
)
def test_hash_ids_are_blocks_of_tokens(name, size, unit):
    workload, found = from_trace(FOLDER / name), rows(name)

    assert lengths(workload) == [(row["input_length"], row["output_length"]) for row in found]
    start = found[0]["timestamp"]
    assert [each.arrival for each in workload] == pytest.approx(
        [unit * (row["timestamp"] - start) for row in found]
    )
    text_of, owner_of = {}, {}
    for timed, row in zip(workload, found, strict=True):
        tokens = tuple(timed.prompt)
        for place, number in enumerate(row["hash_ids"]):
            block = tokens[place * size : (place + 1) * size]
            if len(block) == size:
                assert text_of.setdefault(number, block) == block
                assert owner_of.setdefault(block, number) == number
        assert all(0 <= token < VOCAB for token in tokens)
    assert len(text_of) > 15


@pytest.mark.parametrize(("name", "size"), [("mooncake.jsonl", 512), ("bailian.jsonl", 16)])
def test_a_prefix_cache_finds_what_it_found_in_the_original(name, size):
    """Blocks that an earlier request had in the same places; by the ids alone."""
    workload, seen, expected = from_trace(FOLDER / name), set(), []
    for row in rows(name):
        ids = row["hash_ids"]
        prefixes = [tuple(ids[: n + 1]) for n in range(len(ids))]
        expected.append(size * sum(prefix in seen for prefix in prefixes))
        seen |= set(prefixes)
    assert sum(expected) > 0

    result = serve_alone(workload)

    assert [each.num_cached for each in result.ended] == expected
    assert num_findable([tuple(each.prompt) for each in workload]) == expected
    total = sum(len(each.prompt) for each in workload)
    assert summary(workload).shareable == sum(expected) / total


def test_chats_of_several_turns_are_sessions():
    root_of = {}
    for row in rows("bailian.jsonl"):
        chat, parent = row["chat_id"], row["parent_chat_id"]
        root_of[chat] = root_of[parent] if parent >= 0 else chat
    sessions = [each.terms.session for each in from_trace(FOLDER / "bailian.jsonl")]
    assert sessions == [str(root) for root in root_of.values()]
    assert len(set(sessions)) < len(sessions)


def test_requests_without_hash_ids_have_nothing_in_common():
    workload = from_trace(FOLDER / "azure_2023.csv")
    assert summary(workload).shareable == 0.0
    assert sum(each.num_cached for each in serve_alone(workload).ended) == 0


def test_names_are_lines_so_that_a_request_can_be_found():
    assert [each.name for each in from_trace(FOLDER / "azure_2023.csv")][:2] == ["2", "3"]
    assert [each.name for each in from_trace(FOLDER / "mooncake.jsonl")][:2] == ["1", "2"]
    # the tenth request has failed
    names = [each.name for each in from_trace(FOLDER / "burstgpt.csv")]
    assert "11" not in names and "12" in names


def test_speed_keeps_the_bursts():
    plain, fast = (from_trace(FOLDER / "burstgpt.csv", speedup=speed) for speed in (1, 4))
    assert gaps(fast) == pytest.approx([gap / 4 for gap in gaps(plain)])
    assert summary(fast).burstiness == pytest.approx(summary(plain).burstiness)
    assert summary(fast).rate == pytest.approx(4 * summary(plain).rate)
    assert lengths(fast) == lengths(plain)


def test_a_limit_is_the_beginning_and_what_follows_is_not_looked_at(tmp_path):
    whole = from_trace(FOLDER / "mooncake.jsonl")
    assert from_trace(FOLDER / "mooncake.jsonl", limit=7) == whole[:7]
    path = written(tmp_path, AZURE + "2023-11-16 18:00:00,5,6\nrubbish,,\n")
    assert len(from_trace(path, limit=1)) == 1


def test_long_requests_are_refused_skipped_or_cut(tmp_path):
    path = jsonl(
        tmp_path,
        {},
        {"output_length": 700},
        {"output_length": 2000},
        {"input_length": 2000, "hash_ids": [0, 1, 2, 3]},
    )
    with pytest.raises(ConfigError, match=r"t.jsonl:2: 1700 tokens \(1000 prompt \+ 700 output\)"):
        from_trace(path, max_len=1200)
    assert [each.name for each in from_trace(path, max_len=1200, too_long="skip")] == ["1"]

    cut = from_trace(path, max_len=1200, too_long="cut")
    assert lengths(cut) == [(1000, 5), (500, 700), (1, 1199), (1195, 5)]
    assert cut[1].prompt[:500] == cut[0].prompt[:500] == cut[3].prompt[:500]
    assert lengths(from_trace(path, max_len=2, too_long="cut")) == [(1, 1)] * 4
    with pytest.raises(ConfigError, match="no request is left"):
        from_trace(path, max_len=10, too_long="skip")


def test_the_block_size_may_be_another_one(tmp_path):
    path = jsonl(tmp_path, {"hash_ids": [7, 8, 9, 10]}, {"hash_ids": [7, 8, 5, 6]})
    with pytest.raises(ConfigError, match="blocks of neither 512 .* say kind= and block_size="):
        from_trace(path)
    one, other = from_trace(path, kind="timed_trace", block_size=256)
    assert one.prompt[:512] == other.prompt[:512] and one.prompt[512:768] != other.prompt[512:768]


def test_a_kind_that_several_lines_decide(tmp_path):
    """Five tokens in one block may be any size; 600 in two are blocks of 512."""
    short = {"input_length": 5, "hash_ids": [3]}
    path = jsonl(tmp_path, short, {"timestamp": 2000, "input_length": 600})
    assert [each.arrival for each in from_trace(path)] == [0.0, 2.0]
    path = jsonl(tmp_path, short, short)
    with pytest.raises(ConfigError, match="every line may be of mooncake or timed_trace; say kind"):
        from_trace(path)
    assert len(from_trace(path, kind="mooncake")) == 2


def test_seeds_and_files_have_prompts_of_their_own(tmp_path):
    plain = from_trace(FOLDER / "mooncake.jsonl")
    assert plain == from_trace(FOLDER / "mooncake.jsonl")
    assert plain[0].prompt != from_trace(FOLDER / "mooncake.jsonl", seed=1)[0].prompt
    copy = written(tmp_path, (FOLDER / "mooncake.jsonl").read_text(), "other.jsonl")
    assert len(mix(plain, from_trace(copy))) == 2 * len(plain)
    with pytest.raises(ConfigError, match="have the same prompts"):
        mix(plain, plain)


def test_terms_and_priority_are_those_of_all():
    workload = from_trace(FOLDER / "bailian.jsonl", terms=Terms("me", ttft=1.0), priority=4)
    assert {(each.terms.client, each.terms.ttft, each.priority) for each in workload} == {
        ("me", 1.0, 4)
    }
    assert workload[0].terms.session == "100"


AT = "2023-11-16 18:00:00"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        (AZURE, "is empty"),
        ("time,in,out\n1,2,3\n", r"t.csv:2: time, in, out are no columns .* burstgpt lacks Times"),
        ("TIMESTAMP;ContextTokens;GeneratedTokens\n1;2;3\n", "t.csv:1: semicolons .* commas are"),
        ("Timestamp\tRequest tokens\n1\t2\n", "t.csv:1: tabs stand between its columns"),
        ("TIMESTAMP,ContextTokens\n1,2\n", "azure lacks GeneratedTokens; burstgpt lacks"),
        (AZURE + f"{AT},5\n", r"t.csv:2: GeneratedTokens is missing"),
        (AZURE + f"{AT},5,6\n{AT},,6\n", r"t.csv:3: ContextTokens is missing"),
        (AZURE + f"{AT},5,6,7\n", r"t.csv:2: more values than the 3 columns"),
        (AZURE + f"{AT},0,6\n", r"t.csv:2: ContextTokens is 0; a whole number of 1 or more"),
        (AZURE + f"{AT},5,0\n", r"t.csv:2: GeneratedTokens is 0"),
        (AZURE + f"{AT},-5,6\n", r"t.csv:2: ContextTokens is -5"),
        (AZURE + f"{AT},5.5,6\n", r"t.csv:2: ContextTokens is 5.5"),
        (AZURE + f"{AT},nan,6\n", r"t.csv:2: ContextTokens is 'nan'; a number"),
        (AZURE + f"{AT},five,6\n", r"t.csv:2: ContextTokens is 'five'"),
        (AZURE + "17,5,6\n", r"t.csv:2: TIMESTAMP is '17'; a date like"),
        (AZURE + f"{AT},5,6\n2023-11-16 17:59:59,5,6\n", r"t.csv:3: it came before .* sort"),
        (BURST + "-1,GPT-4,5,6,11,API log\n", r"t.csv:2: Timestamp is -1; times are 0 or more"),
        (BURST + "inf,GPT-4,5,6,11,API log\n", r"t.csv:2: Timestamp is 'inf'"),
        (BURST + "1,GPT-4,0,6,6,API log\n", r"t.csv:2: Request tokens is 0"),
        (BURST + "1,GPT-4,5,0,5,API log\n", r"no request is left"),
        (BURST + "1,GPT-4,5,-2,5,API log\n", r"t.csv:2: Response tokens is -2"),
        ("{bad\n", r"t.csv:1: no JSON .*one object a line"),
        (json.dumps(ROW) + "\n[1, 2]\n", r"t.csv:2: no JSON object"),
        (json.dumps(ROW)[:-1], r"t.csv:1: no JSON"),
        ('[\n{"timestamp": 1}\n]', r"t.csv:1: no JSON"),
        ('{"timestamp": 1, "input_length": 5}', r"mooncake lacks output_length, hash_ids"),
    ],
)
def test_bad_files_are_refused_with_file_and_line(tmp_path, text, says):
    with pytest.raises(ConfigError, match=says):
        from_trace(written(tmp_path, text))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"timestamp": -1}, "timestamp is -1; times"),
        ({"timestamp": float("nan")}, "timestamp is nan"),
        ({"timestamp": "soon"}, "timestamp is 'soon'"),
        ({"timestamp": None}, "timestamp is missing"),
        ({"timestamp": True}, "timestamp is True"),
        ({"input_length": 0, "hash_ids": []}, "input_length is 0"),
        ({"output_length": 10**400}, "output_length is 1000"),
        ({"hash_ids": "0 1"}, "hash_ids is 0 1; a list of whole numbers"),
        ({"hash_ids": [0, 1.5]}, "hash_ids is"),
        ({"hash_ids": [0, -1]}, "hash_ids is"),
        ({"hash_ids": [0, 2**64]}, "hash_ids is"),
        ({"hash_ids": [0]}, "1 hash_ids of 512 tokens are not a prompt of 1000"),
        ({"hash_ids": [0, 1, 2]}, "3 hash_ids of 512 tokens are not a prompt of 1000"),
    ],
)
def test_bad_objects_are_refused_with_file_and_line(tmp_path, change, says):
    with pytest.raises(ConfigError, match=rf"t.jsonl:2: ({says})"):
        from_trace(jsonl(tmp_path, {}, change))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"kind": "sharegpt"}, "'sharegpt'; there are azure, burstgpt, mooncake, timed_trace"),
        ({"kind": "burstgpt"}, r"t.csv:2: .* burstgpt lacks Timestamp, Request tokens"),
        ({"speedup": 0}, "speedup=0"),
        ({"limit": 0, "max_len": -1}, "limit=0, max_len=-1"),
        ({"max_len": 1, "too_long": "cut"}, "2 is the least"),
        ({"too_long": "drop"}, "refuse, skip or cut, not 'drop'"),
    ],
)
def test_bad_options_are_refused(tmp_path, options, says):
    with pytest.raises(ConfigError, match=says):
        from_trace(written(tmp_path, AZURE + f"{AT},5,6\n"), **options)


def test_files_that_cannot_be_read_are_refused(tmp_path):
    (tmp_path / "t.bin").write_bytes(b"\xff\xfe\x00\x81")
    for path in (tmp_path / "nowhere.csv", tmp_path, tmp_path / "t.bin"):
        with pytest.raises(ConfigError, match="cannot be read as a trace"):
            from_trace(path)


def test_blank_lines_spaces_and_a_byte_order_mark_do_no_harm(tmp_path):
    text = "\ufeffTIMESTAMP, ContextTokens, GeneratedTokens\n\n2023-11-16 18:00:00, 5, 6\n"
    assert lengths(from_trace(written(tmp_path, text))) == [(5, 6)]
