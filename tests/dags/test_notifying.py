"""People are told by real notifiers: SNS of moto, and servers on loopback that speak HTTP and SMTP."""

from __future__ import annotations

import asyncio
import email
import json
import logging
import socket
import socketserver
import sys
import threading
import time
import uuid
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import parse_qs

import boto3
import pytest

from shardmill.core.notices import Notice, failure_notice, late_notice, spending_notice
from shardmill.specs.notify import NotifySpec
from shardmill.specs.run import PlannedCluster, RunClusters
from shardmill.specs.spent import RunSpent, SpentCluster

ACCOUNT = {"region_name": "us-east-1", "aws_access_key_id": "x", "aws_secret_access_key": "x"}
HOSTILE = "{{ var.value.secret }} <!channel> <b>$(id)</b>\u202e"


@pytest.fixture(scope="module")
def aws():
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def topic(aws, monkeypatch):
    """A topic whose messages come to a queue."""
    extra = {"region_name": "us-east-1", "endpoint_url": aws}
    told = {"conn_type": "aws", "login": "x", "password": "x", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(told))
    sns, sqs = (boto3.client(name, endpoint_url=aws, **ACCOUNT) for name in ("sns", "sqs"))
    arn = sns.create_topic(Name="told")["TopicArn"]
    queue = f"told-{uuid.uuid4().hex}"
    url = sqs.create_queue(QueueName=queue)["QueueUrl"]
    subscribed = f"arn:aws:sqs:us-east-1:123456789012:{queue}"
    subscription = sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=subscribed)["SubscriptionArn"]

    def messages() -> list[dict[str, str]]:
        found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        return [json.loads(one["Body"]) for one in found]

    yield SimpleNamespace(arn=arn, messages=messages)
    sns.unsubscribe(SubscriptionArn=subscription)


@pytest.fixture
def slack(monkeypatch):
    """Slack's API as far as messages go."""
    posts = []

    class Slack(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            sent = json.loads(body) if body.startswith("{") else {key: one[0] for key, one in parse_qs(body).items()}
            posts.append((self.path, self.headers["Authorization"], sent))
            answer = json.dumps({"ok": sent["channel"] != "#closed", "error": "not_in_channel"}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Slack)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    extra = {"base_url": f"http://127.0.0.1:{server.server_port}/api/"}
    told = {"conn_type": "slack", "password": "xoxb-secret", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_SLACK_API_DEFAULT", json.dumps(told))
    yield posts
    server.shutdown()
    server.server_close()


@pytest.fixture
def mail(monkeypatch):
    """A mail server: sender, recipients and message of each mail."""
    mails: list[tuple[str, list[str], Message]] = []

    class Smtp(socketserver.StreamRequestHandler):
        def handle(self):
            say = lambda line: self.wfile.write(f"{line}\r\n".encode())  # noqa: E731
            say("220 loopback")
            sender, to = "", []
            while line := self.rfile.readline().decode().strip():
                word = line.upper()
                if word.startswith("MAIL FROM"):
                    sender = line.partition("<")[2].partition(">")[0]
                elif word.startswith("RCPT TO"):
                    to.append(line.partition("<")[2].partition(">")[0])
                elif word == "DATA":
                    say("354 go on")
                    lines = iter(self.rfile.readline, b".\r\n")
                    mails.append((sender, to, email.message_from_bytes(b"".join(lines))))
                elif word == "QUIT":
                    say("221 bye")
                    return
                say("250 ok")

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Smtp)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    extra = {"from_email": "mill@example.com", "disable_tls": True, "disable_ssl": True}
    told = {"conn_type": "smtp", "host": "127.0.0.1", "port": server.server_address[1], "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(told))
    yield mails
    server.shutdown()
    server.server_close()


def mail_text(message: Message) -> str:
    part = next(one for one in message.walk() if one.get_content_type() == "text/html")
    return part.get_payload(decode=True).decode()


def test_every_channel_that_is_named_is_told_and_nothing_told_is_rendered(topic, slack, mail):
    from shardmill_airflow.channels import send

    asked = NotifySpec(notify_sns=topic.arn, notify_slack="#ml", notify_email="ann@example.com, bob@example.com")
    notice = failure_notice("video_pipeline", "manual__1", {"split": f"cannot read {HOSTILE}\nmore"}, "http://a/b")
    assert send(asked, notice) == ("notify_sns", "notify_slack", "notify_email")

    (message,) = topic.messages()
    assert message["Subject"] == "video_pipeline failed: manual__1"
    assert "split: cannot read {{ var.value.secret }} <!channel> <b>$(id)</b> \n" in message["Message"]
    assert message["Message"].endswith("\nhttp://a/b")

    ((path, token, post),) = slack
    assert (path, token) == ("/api/chat.postMessage", "Bearer xoxb-secret")
    assert post["channel"] == "#ml" and "&lt;!channel&gt;" in post["text"] and "<" not in post["text"]

    ((sender, to, sent),) = mail
    assert (sender, to) == ("mill@example.com", ["ann@example.com", "bob@example.com"])
    assert sent["Subject"] == "video_pipeline failed: manual__1"
    assert "{{ var.value.secret }} &lt;!channel&gt; &lt;b&gt;$(id)" in mail_text(sent)


def test_a_channel_that_fails_is_named_in_the_log_and_the_others_are_told(topic, slack, monkeypatch, caplog):
    from shardmill_airflow.channels import send

    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", "smtp://127.0.0.1:1/?disable_tls=true&disable_ssl=true&timeout=1")
    asked = NotifySpec(notify_sns=topic.arn, notify_slack="#closed", notify_email="ann@example.com")
    with caplog.at_level(logging.ERROR):
        assert send(asked, Notice("late")) == ("notify_sns",)
    told = [record.getMessage() for record in caplog.records if "was not told" in record.getMessage()]
    assert [line.partition(" ")[0] for line in told] == ["notify_slack", "notify_email"]
    assert "not_in_channel" in told[0]


@pytest.fixture
def silent():
    """The port of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("hangs", ["notify_sns", "notify_slack"])
def test_a_channel_that_hangs_keeps_no_message_from_the_others_and_is_named(mail, silent, monkeypatch, caplog, hangs):
    from shardmill_airflow import channels

    monkeypatch.setattr(channels, "LIMIT_SECONDS", 3.0, raising=False)
    url = f"http://127.0.0.1:{silent}/"
    aws = {"conn_type": "aws", "login": "x", "password": "x", "extra": {"endpoint_url": url}}
    slack = {"conn_type": "slack", "password": "x", "extra": {"base_url": url, "timeout": 60}}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(aws))
    monkeypatch.setenv("AIRFLOW_CONN_SLACK_API_DEFAULT", json.dumps(slack))
    names = {"notify_sns": "arn:aws:sns:us-east-1:123456789012:told", "notify_slack": "#ml"}
    asked = NotifySpec(**{hangs: names[hangs], "notify_email": "ann@example.com"})
    channels.send(NotifySpec(notify_email="bob@example.com"), Notice("loads what is imported once"))
    mails, began = len(mail), time.monotonic()
    with caplog.at_level(logging.ERROR):
        assert channels.send(asked, Notice("failed")) == ("notify_email",)
    assert time.monotonic() - began < 15
    assert len(mail) == mails + 1
    (line,) = [record.getMessage() for record in caplog.records if "was not told" in record.getMessage()]
    assert line.startswith(f"{hangs} was not told: ")


def test_each_channel_gives_up_by_itself_within_the_limit_of_all():
    from shardmill_airflow import channels

    asked = NotifySpec(notify_sns="arn:aws:sns:eu-west-1:123456789012:told", notify_slack="#ml")
    sns, slack = (channels.NOTIFIERS[name](asked, Notice("x")) for name in ("notify_sns", "notify_slack"))
    config = sns.hook.config
    tries = config.retries["total_max_attempts"]
    assert sns.hook.region_name == "eu-west-1"
    assert (config.connect_timeout + config.read_timeout) * tries <= channels.LIMIT_SECONDS < 30
    assert slack.timeout <= channels.LIMIT_SECONDS


@pytest.mark.parametrize("topic_name", ["told.fifo", "told fifo"])
def test_a_topic_that_the_notifier_cannot_tell_is_refused(topic_name):
    from shardmill.specs.mistakes import MistakesError, read_spec

    with pytest.raises(MistakesError, match="notify_sns: expected text such as arn:aws:sns"):
        read_spec(NotifySpec, {"notify_sns": f"arn:aws:sns:us-east-1:123456789012:{topic_name}"})


def test_a_notifier_that_is_not_installed_is_refused_before_anything_starts(monkeypatch):
    from airflow.sdk.exceptions import AirflowFailException

    from shardmill.specs.garbage import GarbageSpec
    from shardmill_airflow.forms import read_form

    monkeypatch.setitem(sys.modules, "airflow.providers.slack.notifications.slack", None)
    with pytest.raises(AirflowFailException, match=r"notify_slack: .*install apache-airflow-providers-slack"):
        read_form(GarbageSpec, {"notify_slack": "#ml"}, {})
    assert read_form(GarbageSpec, {"notify_slack": ""}, {}) == GarbageSpec()


def test_what_a_form_leaves_empty_the_installation_says(monkeypatch):
    from shardmill_airflow.notifying import recipients

    monkeypatch.setenv("SHARDMILL_NOTIFY_EMAIL", "ops@example.com")
    monkeypatch.setenv("SHARDMILL_NOTIFY_SLACK", "#ops; id")
    assert recipients({"notify_email": ""}).notify_email == "ops@example.com"
    assert recipients({"notify_email": "ann@example.com"}).notify_email == "ann@example.com"
    assert recipients(None).notify_slack == ""


class FailedTi:
    """The task instance of a failed run, as Airflow's DAG processor gives it to a callback."""

    dag_id, run_id = "video_pipeline", "manual__1"

    def get_task_states(self, dag_id, run_ids):
        return {run_ids[0]: {"plan": "success", "split_0": "failed", "split_1": "failed", "label": "upstream_failed"}}

    def xcom_pull(self, task_ids, key, map_indexes):
        assert (task_ids, key) == ("split", "failure")
        return f"shard {map_indexes} cannot be read\nlast lines" if map_indexes == 0 else None


def failed(**conf):
    dag = SimpleNamespace(
        dag_id="video_pipeline",
        task_ids=["plan", "split", "label"],
        params=SimpleNamespace(dump=lambda: NotifySpec().model_dump() | {"clip_seconds": 2}),
    )
    run = SimpleNamespace(dag_id="video_pipeline", run_id="manual__1", conf=conf)
    return {"dag": dag, "dag_run": run, "ti": FailedTi(), "reason": "task_failure"}


def test_a_failed_run_is_told_once_with_each_failed_task_and_its_cause(topic):
    from shardmill_airflow.notifying import tell_failure

    tell_failure(failed(notify_sns=topic.arn, clip_seconds=0))
    (message,) = topic.messages()
    lines = message["Message"].splitlines()
    assert lines[1:3] == ["split_0: shard 0 cannot be read", "split_1: see its log"]
    assert lines[-1].endswith("/dags/video_pipeline/runs/manual__1")


def test_a_failed_run_without_a_task_that_can_tell_is_told_with_airflows_reason(topic):
    from shardmill_airflow.notifying import tell_failure

    context = failed(notify_sns=topic.arn) | {"ti": None, "dag_run": None, "run_id": "r", "reason": "timed_out"}
    context["dag"].params = SimpleNamespace(dump=lambda: {"notify_sns": topic.arn})
    tell_failure(context)
    (message,) = topic.messages()
    assert "the run: timed_out" in message["Message"]


@pytest.mark.parametrize(("state", "told"), [("running", 1), ("queued", 1), ("failed", 0), ("success", 0)])
def test_a_late_run_is_told_while_it_is_not_over(topic, state, told):
    from shardmill_airflow.notifying import tell_late

    run = {"dag_id": "video_pipeline", "dag_run_id": "manual__1", "state": state}
    conf = {"notify_sns": topic.arn, "notify_after_hours": 1.5}
    asyncio.run(tell_late({"dag_run": run | {"conf": conf}}))
    found = topic.messages()
    assert len(found) == told
    assert all("not over 1.5 hours after it was queued" in one["Message"] for one in found)


@pytest.mark.parametrize("conf", [{}, None])
def test_a_late_night_by_schedule_is_told_to_those_whom_the_form_names(topic, conf):
    from shardmill_airflow.nightly_settings import nightly_form
    from shardmill_airflow.notifying import tell_late, watched

    asked = json.dumps({"notify_sns": topic.arn, "notify_after_hours": 2})
    alert = watched(nightly_form({"SHARDMILL_NIGHTLY": asked}))["deadline"]
    assert alert.reference.default_hours == 2.0
    kwargs = json.loads(json.dumps(alert.callback.kwargs))  # Airflow keeps them as JSON
    run = {"dag_id": "nightly_reprocess", "dag_run_id": "scheduled__1", "state": "running", "conf": conf}
    asyncio.run(tell_late({"dag_run": run}, **kwargs))
    (message,) = topic.messages()
    assert message["Subject"].startswith("nightly_reprocess is late")
    assert "not over 2 hours after it was queued" in message["Message"]


def test_what_a_run_was_triggered_with_goes_before_the_forms_defaults(topic):
    from shardmill_airflow.notifying import tell_late

    run = {"dag_id": "nightly_reprocess", "dag_run_id": "manual__1", "state": "running"}
    other = {"notify_sns": topic.arn.replace("told", "none")}
    asyncio.run(tell_late({"dag_run": run | {"conf": {"notify_sns": topic.arn}}}, 1.0, other))
    assert len(topic.messages()) == 1


def test_a_late_run_of_which_nobody_is_told_is_named_in_the_log(caplog):
    from shardmill_airflow.notifying import tell_late

    run = {"dag_id": "nightly_reprocess", "dag_run_id": "scheduled__1", "state": "running", "conf": {}}
    with caplog.at_level(logging.WARNING):
        asyncio.run(tell_late({"dag_run": run}, 2.0))
    assert "nightly_reprocess is late, and nobody is named who is to be told: scheduled__1" in caplog.text


@pytest.mark.parametrize(
    ("conf", "hours"),
    [
        ({"notify_after_hours": 2}, 2.0),
        ({"notify_after_hours": 0}, 0.0),
        ({"notify_after_hours": "{{ x }}"}, 0.0),
        ({"notify_after_hours": True}, 0.0),
        ({"notify_after_hours": 1e9}, 0.0),
        ({"notify_after_hours": -1}, 0.0),
        ({}, 8.0),
        (None, 8.0),
    ],
)
def test_a_run_is_late_by_its_own_hours_or_else_by_its_dags(conf, hours):
    from shardmill_airflow.deadlines import hours_of

    assert hours_of(conf, 8.0) == hours


def test_airflow_keeps_the_deadline_of_a_dag_and_finds_it_by_the_plugin():
    from airflow.serialization.encoders import encode_deadline_reference

    from shardmill_airflow.deadlines import RunDeadline

    kept = encode_deadline_reference(RunDeadline(8.0))
    assert kept["__class_path"] == "shardmill_airflow.deadlines.RunDeadline"
    assert RunDeadline.deserialize_reference(kept).default_hours == 8.0


def clusters(*usd_an_hour: float, hours: tuple[float, float] | None = (1, 2)) -> RunClusters:
    each = [PlannedCluster(work="train", request={}, usd_an_hour=usd, hours=hours) for usd in usd_an_hour]
    return RunClusters(clusters=tuple(each), max_hours=6, prices="x")


def spent(*usd: float) -> RunSpent:
    each = [SpentCluster(work="train", id="j-1", state="TERMINATED", created="x", hours=3, usd=one) for one in usd]
    return RunSpent(clusters=tuple(each), looked="x")


@pytest.mark.parametrize(
    ("planned", "came_to", "told"),
    [
        (clusters(1.0), spent(1.9), False),
        (clusters(1.0), spent(2.0), False),
        (clusters(1.0), spent(2.5), True),
        (clusters(1.0), spent(1.5, 1.5), True),
        (clusters(1.0, hours=None), spent(5.9), False),
        (clusters(1.0, hours=None), spent(6.5), True),
        (clusters(1.0), spent(), False),
        (clusters(), spent(0.5), True),
    ],
)
def test_spending_is_told_where_it_is_above_what_was_expected_at_most(planned, came_to, told):
    notice = spending_notice("run", planned, came_to)
    assert (notice is not None) is told
    assert notice is None or f"{came_to.usd:.2f} USD" in notice.text


def test_a_notice_of_many_long_lines_stays_short():
    notice = failure_notice("dag", "r\n\u202e" * 80, {f"split_{n}": "x" * 10_000 for n in range(500)})
    assert len(notice.text) < 12_000 and "… and 488 more" in notice.text
    assert len(notice.short_subject) <= 100 and notice.short_subject.isascii() and notice.short_subject.isprintable()
    assert late_notice("dag", "r", 2).text.startswith("dag is late: r\n")
