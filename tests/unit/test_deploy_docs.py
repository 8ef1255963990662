"""docs/deploy.md says what the code and the template say."""

import re
from pathlib import Path

import pytest

from deploy import costs
from deploy.template import load
from deploy.units import UNITS
from tests.kit.cloudformation import TEMPLATE, Rendered

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "deploy.md").read_text()


@pytest.mark.parametrize("table", [costs.rest_table, costs.answers_table], ids=["at rest", "answers"])
def test_the_tables_of_costs_are_the_computed_ones(table):
    assert table() in PAGE


def test_the_break_even_is_the_computed_one():
    assert f"from about {costs.break_even():.0f} answers running on\naverage" in PAGE


def test_on_instances_a_thousand_answers_cost_less_the_more_share_one():
    found = [costs.on_instances(streams) for streams in (1, 4, 16, 64)]
    assert found == sorted(found, reverse=True)
    at = costs.break_even()
    hours = costs.ANSWERS * costs.ANSWER_SECONDS / costs.SECONDS_AN_HOUR / at
    assert costs.LEAST_INSTANCES * costs.instance_month() / costs.HOURS_A_MONTH * hours == pytest.approx(
        costs.on_demand()
    )


def test_the_counts_that_are_priced_are_those_of_the_template():
    from chat.adapters.telemetry.metric_names import METRICS

    resources = list(Rendered(OpenAiApiKey="sk").resources.values())
    alarms = [resource["Properties"] for resource in resources if resource["Type"] == "AWS::CloudWatch::Alarm"]
    assert [resource["Type"] for resource in resources].count("AWS::SecretsManager::Secret") == costs.SECRETS
    assert len(alarms) == costs.ALARMS
    read = [sum("MetricStat" in metric for metric in alarm.get("Metrics", [])) or 1 for alarm in alarms]
    assert sum(read) == costs.ALARM_METRICS
    assert len(METRICS) == costs.METRICS


def test_every_parameter_that_the_page_names_exists_and_every_file_too():
    names = set(re.findall(r"\b([A-Z][a-z]+[A-Za-z]*)=", PAGE)) - {"OutputKey"}
    assert len(names) > 8
    others = [load((ROOT / "deploy" / f"{name}.yaml").read_text())["Parameters"] for name in ("bootstrap", "front")]
    assert names - {"SameSite"} <= set(TEMPLATE["Parameters"]).union(*others)
    for path in re.findall(r"`((?:deploy|events|tests|layers|docs)/[\w./-]*\w)`", PAGE):
        assert (ROOT / path).exists(), path


def test_the_order_of_delivery_is_the_one_of_the_code():
    assert f"in the order {', '.join(unit.name for unit in UNITS)}" in PAGE.replace("\n   ", " ")


def test_time_outs_and_memory_are_those_of_the_template():
    rendered = Rendered(OpenAiApiKey="sk")
    rows = {
        "stream_chat": "StreamChat",
        "create_chat, cancel_stream, manage_chats": "CreateChat",
        "migrations": "Migration",
    }
    for row, prefix in rows.items():
        properties = rendered.of(f"{prefix}Function")
        assert f"| {row} | {properties['MemorySize']} MB | {properties['Timeout']} s |" in PAGE
    for name in ("MemorySize", "Timeout"):
        assert rendered.of("CreateChatFunction")[name] == rendered.of("CancelStreamFunction")[name]
