"""The simulated labeller over HTTP: right about most of its own tasks, and of no others."""

import httpx2

from app.sandbox.models import LABELLER
from app.sandbox.tasks import find_task, list_task_rows
from engine.edits import EditField
from engine.label_prompts import LABELLED_FIELDS, label_messages, label_response_format
from engine.labels import read_labels
from engine.rows import DatasetRow

CHAT = "/api/v1/chat/completions"
ROWS = list_task_rows()


async def label(
    client: httpx2.AsyncClient, row: DatasetRow, *fields: EditField
) -> dict[EditField, object]:
    wanted = fields or LABELLED_FIELDS
    body = {
        "model": LABELLER.id,
        "messages": label_messages("Answer: {input}", row, wanted),
        "response_format": label_response_format(wanted),
    }
    answer = await client.post(CHAT, json=body)
    assert answer.status_code == 200
    return dict(read_labels(answer.json()["choices"][0]["message"]["content"], wanted))


async def test_it_is_right_about_most_of_its_own_tasks_and_not_about_all(
    client: httpx2.AsyncClient,
) -> None:
    given = [await label(client, DatasetRow(row["question"])) for row in ROWS]
    right = [
        labels[EditField.EXPECTED] == row["answer"] for labels, row in zip(given, ROWS, strict=True)
    ]
    assert 0.9 < sum(right) / len(ROWS) < 1
    assert {tuple(labels) for labels in given} == {LABELLED_FIELDS}


async def test_it_says_what_is_wanted_and_finds_a_wrong_answer_bad(
    client: httpx2.AsyncClient,
) -> None:
    task = find_task(ROWS[0]["question"])
    assert task is not None
    good = await label(client, DatasetRow(task.question, task.answer), EditField.QUALITY)
    bad = await label(client, DatasetRow(task.question, task.mistakes[0]), EditField.QUALITY)
    assert (good, bad) == ({EditField.QUALITY: 0.89}, {EditField.QUALITY: 0.19})


async def test_of_other_rows_it_can_tell_nothing(client: httpx2.AsyncClient) -> None:
    assert await label(client, DatasetRow("What is love?")) == {}


async def test_asked_anything_else_it_answers_like_any_model(client: httpx2.AsyncClient) -> None:
    body = {"model": LABELLER.id, "messages": [{"role": "user", "content": "What is love?"}]}
    said = (await client.post(CHAT, json=body)).json()["choices"][0]["message"]["content"]
    assert said.startswith("sandbox/labeller is a simulated model")
