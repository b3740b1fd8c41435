"""What a run will pay for is written down, and refused where it is too much, before anything is made."""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from botocore.exceptions import EndpointConnectionError
from local_account import local_account

from shardmill.adapters.emr import RefusedError
from shardmill.adapters.run_folder import find, freeze, load
from shardmill.core.bake import sha256
from shardmill.core.costs import BudgetError
from shardmill.core.plan_lines import plan_lines
from shardmill.core.planning import BadRequestError
from shardmill.jobs.bake_image.planning import shipped_lock
from shardmill.localcloud import emr_state as states
from shardmill.specs.manifest import SourceObject
from shardmill.specs.run import PlannedShard, RunClusters, RunPlan, RunSpec
from shardmill.specs.spent import RunSpent
from shardmill.specs.video_pipeline import VideoPipelineSpec
from shardmill.stages import OpenRun

STARTED = "2026-11-21T01:00:00+00:00"
T0 = datetime.fromisoformat(STARTED).timestamp()


@pytest.fixture(scope="module")
def account(tmp_path_factory):
    """Clients of an account by the service's name, and the table of its clusters."""
    with local_account(tmp_path_factory.mktemp("s3")) as found:
        yield found


def shard(number: int, size: int = 1, **todo: str) -> PlannedShard:
    source = SourceObject(uri=f"s3://b/s-{number:06d}.tar", size=size, version="v")
    return PlannedShard(shard=number, source=source, todo=todo)


ONE = (shard(0, clips="new"),)


@pytest.fixture
def open_run(account, lake, monkeypatch):
    from shardmill_airflow import account_look, spending

    for module in (account_look, spending):
        monkeypatch.setattr(module, "client", account[0])

    def make(run="r1", shards=ONE, **asked):
        asked = {"source": "file:///source"} | asked
        spec = RunSpec(run=run, started=STARTED, asked=VideoPipelineSpec(lake=lake.uri, **asked))
        freeze(lake, run, "plan.json", RunPlan(shards=tuple(shards)))
        access = SimpleNamespace(settings_of=lambda *uris: None)
        return OpenRun(lake, spec, access)

    return make


@pytest.fixture
def plan(open_run):
    from shardmill_airflow.spending import plan_clusters

    return lambda run="r1", **asked: plan_clusters(open_run(run, **asked))


def test_a_run_writes_down_the_requests_for_its_clusters_and_what_they_may_cost(plan, lake):
    planned = plan(where="cluster", ingest="copy", split_count=4, max_hours=2.0)
    assert load(lake, "r1", "clusters.json", RunClusters) == planned
    assert [one.work for one in planned.clusters] == ["split", "train"]
    split, train = planned.clusters
    assert train.request["CustomAmiId"].startswith("ami-0c1a55e5ba4ed")
    assert split.request["Instances"]["InstanceGroups"][1]["InstanceCount"] == 4
    hourly = train.usd_an_hour + split.usd_an_hour
    assert hourly > 0
    assert train.hours[0] >= 0.1 and split.hours[1] <= 2
    assert planned.summary == f"2 clusters, {planned.expected_usd[0]:.2f} to {planned.most_usd:.2f} USD"
    assert planned.most_usd == pytest.approx(hourly * 2, abs=0.01)
    lines = list(plan_lines(planned))
    assert planned.words == tuple(lines)
    assert any("not checked against an account" in line for line in lines)
    assert any(line.startswith("checked: EMR takes ") for line in lines)
    assert any(line.startswith("not checked: quotas of vCPUs: ListServiceQuotas is not served") for line in lines)
    assert any(line.startswith("cluster to split: ") and "executors" in line for line in lines)


def test_volumes_that_emr_adds_to_nodes_without_disks_are_in_the_bill(plan):
    (cluster,) = plan().clusters
    # 40 GiB of root for three nodes, and 64 GiB more for the m5.xlarge, which has no disks; g4dn.xlarge has.
    nodes = 0.192 + 0.048 + 2 * (0.526 + 0.1315)
    assert cluster.usd_an_hour == pytest.approx(nodes + (3 * 40 + 64) * 0.08 / 730)


def test_a_run_that_is_planned_again_keeps_what_it_planned(plan):
    first = plan(max_hours=2.0)
    assert plan(max_hours=2.0) == first


def test_a_run_that_may_cost_too_much_is_refused_with_the_sum(plan, lake):
    with pytest.raises(BudgetError, match=r"max_usd: .* could cost \d+\.\d\d USD in max_hours = 6"):
        plan(max_usd=1.0)
    assert lake.head("runs/r1/clusters.json") is None


def test_traffic_out_of_another_cloud_is_planned_and_counts_against_the_limit(plan, lake):
    asked = {"source": "gs://videos", "shards": [shard(0, 100 * 2**30, clips="new")]}
    planned = plan(**asked)
    (traffic,) = [cost for cost in planned.costs if cost.what == "traffic from gs://videos"]
    assert traffic.usd == pytest.approx((12, 24))
    with pytest.raises(BudgetError, match=r", 24\.00 for traffic from gs://videos; allowed are 30"):
        plan("r2", max_usd=30.0, **asked)


def test_a_source_in_another_region_of_aws_is_found_out_and_its_traffic_planned(account, plan):
    place = {"LocationConstraint": "eu-central-1"}
    account[0]("s3").create_bucket(Bucket="far", CreateBucketConfiguration=place)
    big = [shard(0, 100 * 2**30, clips="new")]
    (traffic,) = [cost for cost in plan(source="s3://far/raw", shards=big).costs if cost.what.startswith("traffic")]
    assert traffic.usd == pytest.approx((2, 4))
    near = plan("r2", source="s3://shardmill-source/raw", shards=big)
    assert not [cost for cost in near.costs if cost.what.startswith("traffic")]


def test_a_type_without_a_price_is_named_and_stops_only_a_run_with_a_limit(plan):
    (cluster,) = plan(core_type="g6.2xlarge").clusters
    assert cluster.unknown == ("instance_hour.g6.2xlarge", "emr_hour.g6.2xlarge")
    with pytest.raises(BudgetError, match=r"no price known for instance_hour\.g6\.2xlarge, emr_hour\.g6\.2xlarge"):
        plan(run="r2", core_type="g6.2xlarge", max_usd=100.0)


def test_ones_own_prices_take_the_place_of_ours(plan, tmp_path):
    prices = {"region": "us-east-1", "as_of": "today", "source": "our contract"}
    prices |= {"instance_hour": {"m5.xlarge": 1, "g4dn.xlarge": 2}, "emr_hour": {"m5.xlarge": 0, "g4dn.xlarge": 0}}
    file = tmp_path / "prices.json"
    file.write_text(json.dumps({**prices, "volume_gib_month": 0, "rates": {"cluster_start_hours": [1, 1]}}))
    planned = plan(prices=f"file://{file}")
    assert planned.clusters[0].usd_an_hour == 5
    assert planned.clusters[0].hours[0] == pytest.approx(1, abs=0.001)
    assert planned.prices == "us-east-1, today: our contract"
    assert planned.unknown == ("storage_gib_month", "put_thousand", "get_thousand")


@pytest.mark.parametrize(
    ("content", "told"),
    [("{", "prices: .*the file: Invalid JSON"), ('{"region": 1}', "prices: .*region: Input should be a valid string")],
)
def test_a_price_file_that_is_none_is_refused_by_field(plan, tmp_path, content, told):
    file = tmp_path / "prices.json"
    file.write_text(content)
    with pytest.raises(BadRequestError, match=told):
        plan(prices=f"file://{file}")


def test_a_price_file_that_is_not_there_is_refused_by_field(plan, tmp_path):
    with pytest.raises(BadRequestError, match=r"prices: .*none\.json"):
        plan(prices=f"file://{tmp_path}/none.json")


def test_an_image_that_is_not_there_is_refused_together_with_all_else_that_is_wrong(plan, lake):
    with pytest.raises(RefusedError) as refused:
        plan(
            image_id="ami-0aaaaaaaaaaaaaaaa",
            core_type="p3.2xlarge",
            service_role="nobody",
            subnet_id="subnet-0123456789abcdef0",
        )
    told = str(refused.value).splitlines()
    assert [line.partition(":")[0] for line in told] == ["image_id", "core_type", "service_role", "subnet_id"]
    assert "ami-0aaaaaaaaaaaaaaaa" in told[0]
    assert lake.head("runs/r1/clusters.json") is None


@pytest.fixture
def baked_from(account, plan):
    """Say that the image was baked from a list of packages."""
    (cluster,) = plan("which").clusters
    ec2, image_id = account[0]("ec2"), cluster.request["CustomAmiId"]
    yield lambda digest: ec2.create_tags(Resources=[image_id], Tags=[{"Key": "lock", "Value": digest}])
    ec2.delete_tags(Resources=[image_id], Tags=[{"Key": "lock"}])


@pytest.mark.parametrize("gpu", [False, True])
def test_an_image_with_the_packages_of_this_version_is_said_to_have_them(plan, baked_from, gpu):
    baked_from(sha256(shipped_lock(gpu=gpu)))
    planned = plan()
    assert any(line.startswith("packages of ami-") for line in planned.checked)
    assert not any(line.startswith("packages of ") for line in planned.not_checked)


def test_an_image_that_was_baked_from_other_packages_is_named_before_its_cluster_costs(plan, baked_from):
    baked_from(sha256("numpy==1.0 --hash=sha256:0"))
    planned = plan()
    (line,) = [line for line in plan_lines(planned) if line.startswith("not checked: packages of ami-")]
    assert "run bake_gpu_ami again" in line


def test_an_installation_without_the_list_plans_all_the_same_and_says_so(plan, baked_from, monkeypatch):
    from shardmill.jobs.bake_image import planning

    baked_from("0" * 64)
    monkeypatch.setattr(planning, "CLUSTER_LOCK", "none.txt")
    (line,) = [line for line in plan().not_checked if line.startswith("packages of ami-")]
    assert "none.txt is not there" in line


def test_of_an_image_that_no_bake_made_nothing_is_said_of_its_packages(plan):
    planned = plan()
    assert not any(line.startswith("packages of ") for line in (*planned.checked, *planned.not_checked))


def test_nodes_that_are_too_small_are_refused_with_the_rest(plan):
    with pytest.raises(RefusedError) as refused:
        plan(where="cluster", ingest="copy", split_type="t3.small", service_role="nobody")
    told = str(refused.value)
    assert "split_type: " in told and "service_role: there is no role nobody" in told


def test_a_run_that_needs_no_cluster_asks_the_account_nothing(open_run, lake, monkeypatch):
    from shardmill_airflow import account_look, spending

    opened = open_run(shards=[shard(0)])
    for name in ("model/model.json", "metrics.json"):
        lake.put(f"runs/r1/{name}", b"{}")
    monkeypatch.setattr(account_look, "client", None)
    monkeypatch.setattr(spending, "client", None)
    assert spending.plan_clusters(opened).summary == "no cluster is needed"


def test_three_thousand_shards_are_planned_within_ten_seconds(open_run):
    from shardmill_airflow.spending import plan_clusters

    todo = {"raw": "new", "clips": "new", "features": "its clips are to be made first"}
    shards = [shard(number, 400_000_000, **todo) for number in range(3000)]
    opened = open_run(shards=shards, where="cluster", ingest="copy", split_type="m5.4xlarge", split_count=20)
    started = time.process_time()
    planned = plan_clusters(opened)
    # Not by the clock on the wall, which shows what else the machine does.
    assert time.process_time() - started < 10
    assert [(stage.stage, stage.shards, stage.why) for stage in planned.stages][1] == ("split", 3000, {"new": 3000})


def live(account, planned: RunClusters, ends: float | None) -> str:
    """Make the cluster that was planned, let it live from one minute after the plan."""
    client, table = account
    cluster_id = client("emr").run_job_flow(**planned.clusters[0].request)["JobFlowId"]
    step = {"Name": "train r1", "ActionOnFailure": "CONTINUE", "HadoopJarStep": {"Jar": "command-runner.jar"}}
    (step_id,) = client("emr").add_job_flow_steps(JobFlowId=cluster_id, Steps=[step])["StepIds"]

    def move(known):
        known = states.ready(states.bootstrapping(states.replace(known, created=T0 + 60)), T0 + 600)
        known = states.step_started(known, step_id, T0 + 660)
        if ends is None:
            return known
        known = states.step_ended(known, step_id, states.Outcome("COMPLETED"), T0 + 660 + 900)
        return states.terminated(states.terminating(known, states.Reason("USER_REQUEST", "told to"), T0), ends)

    table.change(cluster_id, move)
    return cluster_id


def test_what_clusters_came_to_is_written_down_beside_the_plan(open_run, account, lake, caplog):
    from shardmill_airflow.spending import note_spent, plan_clusters

    caplog.set_level(logging.INFO)
    opened = open_run("r-spent")
    planned = plan_clusters(opened)
    first, second = (live(account, planned, T0 + 60 + seconds) for seconds in (3600, 1800))
    note_spent(opened)
    spent = load(lake, "r-spent", "spent.json", RunSpent)
    assert {cluster.id for cluster in spent.clusters} == {first, second}
    one = next(cluster for cluster in spent.clusters if cluster.id == first)
    assert (one.work, one.state, one.reason, one.hours) == ("train", "TERMINATED", "USER_REQUEST: told to", 1.0)
    assert one.node_hours == {"m5.xlarge": 1.0, "g4dn.xlarge": 2.0}
    assert one.usd == pytest.approx(planned.clusters[0].usd_an_hour)
    assert [(step.name, step.state, step.hours) for step in one.steps] == [("train r1", "COMPLETED", 0.25)]
    assert spent.usd == pytest.approx(1.5 * one.usd)
    assert f"cluster to train: 1 h 00 min, {one.usd:.2f} USD ({first} TERMINATED); expected were " in caplog.text


@pytest.mark.parametrize("nodes", ["groups", "fleets"])
def test_spot_nodes_are_counted_apart_and_have_no_price_of_nodes_on_demand(open_run, account, lake, nodes):
    from shardmill_airflow.spending import note_spent, plan_clusters

    run = f"r-spot-{nodes}"
    opened = open_run(run, spot_count=3, nodes=nodes)
    live(account, plan_clusters(opened), T0 + 3660)
    note_spent(opened)
    (cluster,) = load(lake, run, "spent.json", RunSpent).clusters
    assert cluster.node_hours == {"m5.xlarge": 1.0, "g4dn.xlarge": 2.0, "g4dn.xlarge spot": 3.0}
    assert cluster.unknown == ("g4dn.xlarge spot",)


def test_a_cluster_that_is_alive_is_said_to_be_and_counted_until_now(open_run, account, lake, caplog):
    from shardmill_airflow.spending import note_spent, plan_clusters

    opened = open_run("r-alive")
    cluster_id = live(account, plan_clusters(opened), None)
    note_spent(opened)
    (cluster,) = load(lake, "r-alive", "spent.json", RunSpent).alive
    hours = (datetime.now(UTC).timestamp() - T0 - 60) / 3600
    assert cluster.id == cluster_id
    assert cluster.hours == pytest.approx(max(0.0, hours), abs=0.05)
    assert not cluster.ended


def test_what_emr_has_forgotten_stays_written_down(open_run, account, lake):
    from shardmill_airflow.spending import note_spent, plan_clusters

    _, table = account
    opened = open_run("r-old")
    planned = plan_clusters(opened)
    old = live(account, planned, T0 + 3660)
    note_spent(opened)
    table.change(old, lambda known: states.replace(known, created=T0 - 10**6))
    new = live(account, planned, T0 + 1860)
    note_spent(opened)
    assert {cluster.id for cluster in load(lake, "r-old", "spent.json", RunSpent).clusters} == {old, new}


def test_a_report_that_is_made_again_leaves_what_it_found_before_where_nothing_came_since(open_run, account, lake):
    from shardmill_airflow.spending import note_spent, plan_clusters

    opened = open_run("r-again")
    live(account, plan_clusters(opened), T0 + 3660)
    note_spent(opened)
    before = lake.get("runs/r-again/spent.json")
    time.sleep(1.1)  # the time that it is looked at is written in seconds
    note_spent(opened)
    assert lake.get("runs/r-again/spent.json") == before


def test_a_report_is_not_kept_from_being_written_by_emr(open_run, lake, monkeypatch, caplog):
    from shardmill_airflow import spending

    opened = open_run()
    spending.plan_clusters(opened)

    def silent(service):
        raise EndpointConnectionError(endpoint_url="https://emr")

    monkeypatch.setattr(spending, "client", silent)
    spending.note_spent(opened)
    assert "EMR did not say what the clusters of this run came to" in caplog.text
    assert find(lake, "r1", "spent.json", RunSpent) is None


def test_a_dry_run_and_one_without_a_plan_ask_emr_nothing(open_run, monkeypatch):
    from shardmill_airflow import spending

    dry, unplanned = open_run("r-dry", dry_run=True), open_run("r-none")
    spending.plan_clusters(dry)
    monkeypatch.setattr(spending, "client", None)
    spending.note_spent(dry)
    spending.note_spent(unplanned)


@pytest.fixture
def as_task(open_run, monkeypatch):
    """Runs a task's function as Airflow does, on a run of these settings; gives what it returned and told."""
    from shardmill_airflow import outcomes, tasks

    def run(name: str, opened: OpenRun, states: dict[str, str] | None = None):
        told: dict[str, object] = {}
        ti = SimpleNamespace(
            dag_id="d",
            run_id="r",
            task_id=name,
            xcom_push=told.__setitem__,
            xcom_pull=lambda **_: None,
            get_task_states=lambda **_: {"r": states or {}},
        )
        dag_run = SimpleNamespace(start_date=datetime.now(UTC) - timedelta(hours=2))
        for module in (outcomes, tasks):
            monkeypatch.setattr(module, "get_current_context", lambda: {"ti": ti, "dag_run": dag_run})
        monkeypatch.setattr(tasks, "open_run", lambda spec_uri: opened)
        return getattr(tasks, name).function("spec.json"), told

    return run


def test_people_are_told_once_of_what_clusters_came_to_however_often_the_report_is_made(
    as_task, open_run, account, lake, monkeypatch
):
    from shardmill_airflow import channels
    from shardmill_airflow.spending import plan_clusters

    sent: list[str] = []
    answers = iter([(), ("notify_sns",)])

    def send(asked, notice):
        sent.append(notice.subject)
        return next(answers)

    monkeypatch.setattr(channels, "send", send)
    opened = open_run("r-told", max_hours=2.0)
    live(account, plan_clusters(opened), T0 + 60 + 3600 * 500)
    for tries in (1, 2, 2, 2):
        # Nobody took the first one: it is told again.
        as_task("report", opened, {"budget": "success", "delete_cluster": "success"})
        assert len(sent) == tries
    assert b"USD" in lake.get("runs/r-told/spending_told.txt")


@pytest.mark.parametrize("dry_run", [False, True])
def test_the_first_task_tells_the_plan_and_goes_on_unless_the_run_is_dry(as_task, open_run, caplog, dry_run):
    caplog.set_level(logging.INFO)
    goes_on, told = as_task("budget", open_run("r-task", dry_run=dry_run))
    assert goes_on is not dry_run
    assert told["summary"]["line"].startswith("1 cluster, ")
    assert told["summary"]["line"].endswith("; dry_run: nothing is begun") is dry_run
    assert "split: 1 shard to do, 1 B at the source: 1 new" in caplog.text
    assert "checked: role EMR_DefaultRole" in caplog.text


def test_the_report_has_what_the_run_came_to(as_task, open_run, account, lake):
    from shardmill_airflow.spending import plan_clusters

    opened = open_run("r-report")
    cluster_id = live(account, plan_clusters(opened), T0 + 3660)
    uri, _ = as_task("report", opened, {"budget": "success", "delete_cluster": "success"})
    page = lake.get(uri.removeprefix(f"{lake.uri}/")).decode()
    assert f"{cluster_id} TERMINATED" in page
    assert "step train r1" in page
    assert "2 h 00 min" in page, "from the run's start to its report"
