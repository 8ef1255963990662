"""What the service costs on AWS: prices in, tables for docs/deploy.md out. Other prices: change `PRICES` and run it.

python -m deploy.costs
"""

from __future__ import annotations

from dataclasses import dataclass

HOURS_A_MONTH = 730
SECONDS_AN_HOUR = 3600


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars, before any free tier or commitment."""

    as_of: str
    region: str
    lambda_gb_second: float
    lambda_million_requests: float
    provisioned_gb_second: float
    provisioned_duration_gb_second: float
    snapshot_gb_second: float
    restore_gb: float
    instance: str
    instance_hour: float
    instance_fee: float
    nat_hour: float
    address_hour: float
    aurora_unit_hour: float
    endpoint_zone_hour: float
    proxy_unit_hour: float
    proxy_least_units: int
    valkey_gb_hour: float
    valkey_least_gb: float
    secret_month: float
    alarm_metric_month: float
    metric_month: float
    dashboard_month: float


PRICES = Prices(
    as_of="June 2026",
    region="us-east-1, arm64",
    lambda_gb_second=0.0000133334,
    lambda_million_requests=0.20,
    provisioned_gb_second=0.0000033334,
    provisioned_duration_gb_second=0.0000077778,
    snapshot_gb_second=0.0000015046,
    restore_gb=0.0001397998,
    instance="m7g.large",
    instance_hour=0.0816,
    instance_fee=0.15,
    nat_hour=0.045,
    address_hour=0.005,
    aurora_unit_hour=0.12,
    endpoint_zone_hour=0.01,
    proxy_unit_hour=0.015,
    proxy_least_units=8,
    valkey_gb_hour=0.084,
    valkey_least_gb=0.1,
    secret_month=0.40,
    alarm_metric_month=0.10,
    metric_month=0.30,
    dashboard_month=3.0,
)
"""List prices of the month `as_of`, without free tier, commitment or discount.

Source: https://aws.amazon.com/lambda/pricing/ (also Managed Instances' fee), https://aws.amazon.com/ec2/pricing/on-demand/,
https://aws.amazon.com/vpc/pricing/ (NAT gateway, public address), https://aws.amazon.com/privatelink/pricing/,
https://aws.amazon.com/rds/aurora/pricing/,
https://aws.amazon.com/rds/proxy/pricing/, https://aws.amazon.com/elasticache/pricing/,
https://aws.amazon.com/secrets-manager/pricing/ and https://aws.amazon.com/cloudwatch/pricing/.
"""

ANSWERS = 1000
ANSWER_SECONDS = 30
STREAM_GB = 0.5
FUNCTIONS = 4
"""Each with one live version of `STREAM_GB`; an older version's snapshot is dropped 14 days after its last use."""
LEAST_INSTANCES = 3
"""A capacity provider starts three, one in each zone, and keeps them."""
SECRETS = 8
ALARMS = 11
ALARM_METRICS = 18
"""What alarms are billed by: a rate reads two, and the one on throttles those of three functions."""
METRICS = 25


def on_demand(prices: Prices = PRICES) -> float:
    """Return the cost of the answers, each in an environment of its own."""
    return ANSWERS * (ANSWER_SECONDS * STREAM_GB * prices.lambda_gb_second + prices.lambda_million_requests / 1_000_000)


def provisioned(used: float, prices: Prices = PRICES) -> float:
    """Return the cost of the answers in environments that are always warm, busy for the share `used` of the time."""
    kept = ANSWERS * ANSWER_SECONDS / used * STREAM_GB * prices.provisioned_gb_second
    answered = ANSWERS * ANSWER_SECONDS * STREAM_GB * prices.provisioned_duration_gb_second
    return kept + answered + ANSWERS * prices.lambda_million_requests / 1_000_000


def instance_month(prices: Prices = PRICES) -> float:
    """Return what one instance costs in a month, Lambda's fee included."""
    return prices.instance_hour * (1 + prices.instance_fee) * HOURS_A_MONTH


def on_instances(streams: int, prices: Prices = PRICES) -> float:
    """Return the cost of the answers when one instance serves `streams` at once all the time."""
    an_hour = streams * SECONDS_AN_HOUR / ANSWER_SECONDS
    hours = ANSWERS / an_hour
    return hours * instance_month(prices) / HOURS_A_MONTH + ANSWERS * prices.lambda_million_requests / 1_000_000


def restores(prices: Prices = PRICES) -> float:
    """Return the cost of a thousand restores of one function."""
    return 1000 * STREAM_GB * prices.restore_gb


def break_even(prices: Prices = PRICES) -> float:
    """Return how many answers must be running on average, day and night, for the least instances to pay."""
    a_month = LEAST_INSTANCES * instance_month(prices) / on_demand(prices) * ANSWERS
    return a_month * ANSWER_SECONDS / (HOURS_A_MONTH * SECONDS_AN_HOUR)


def at_rest(prices: Prices = PRICES) -> dict[str, float]:
    """Return what each part costs in a month in which nobody writes."""
    return {
        "Functions, layers, logs": 0.0,
        "NAT gateway with its address": (prices.nat_hour + prices.address_hour) * HOURS_A_MONTH,
        "Endpoint of Bedrock in two zones, only with `OpenAiBaseUrl=bedrock`": (
            2 * prices.endpoint_zone_hour * HOURS_A_MONTH
        ),
        "Aurora at 0.5 units (`DatabaseMinCapacity`)": 0.5 * prices.aurora_unit_hour * HOURS_A_MONTH,
        "Aurora asleep (`DatabaseMinCapacity=0`), storage only": 0.0,
        "RDS Proxy at its least, only with `DatabaseProxy`": (
            prices.proxy_least_units * prices.proxy_unit_hour * HOURS_A_MONTH
        ),
        "ElastiCache Serverless at its least": prices.valkey_least_gb * prices.valkey_gb_hour * HOURS_A_MONTH,
        f"Secrets ({SECRETS})": SECRETS * prices.secret_month,
        f"Alarms ({ALARMS}, on {ALARM_METRICS} metrics)": ALARM_METRICS * prices.alarm_metric_month,
        "Dashboard (the first three of an account are free)": prices.dashboard_month,
        f"Metrics of ours, if all {METRICS} are in use": METRICS * prices.metric_month,
        f"SnapStart, snapshots of {FUNCTIONS} live versions, only with `SnapStart`": (
            FUNCTIONS * STREAM_GB * prices.snapshot_gb_second * HOURS_A_MONTH * SECONDS_AN_HOUR
        ),
        f"Managed Instances, the least ({LEAST_INSTANCES}), only with `StreamOnInstances`": (
            LEAST_INSTANCES * instance_month(prices)
        ),
    }


def table(rows: list[tuple[str, str]], heading: tuple[str, str]) -> str:
    """Return rows of two columns as Markdown."""
    return "\n".join(f"| {left} | {right} |" for left, right in [heading, ("---", "---:"), *rows])


def rest_table(prices: Prices = PRICES) -> str:
    """Return the table of monthly costs at rest."""
    rows = [(name, f"{cost:.2f}") for name, cost in at_rest(prices).items()]
    return table(rows, ("at rest", f"USD a month ({prices.region}, {prices.as_of})"))


def answers_table(prices: Prices = PRICES) -> str:
    """Return the table of what a thousand answers cost, one row for each way to run them."""
    rows = [("on demand, 512 MB", f"{on_demand(prices):.3f}")]
    rows += [
        (f"provisioned concurrency, {used:.0%} in use", f"{provisioned(used, prices):.3f}") for used in (1, 0.5, 0.1)
    ]
    rows += [
        (f"Managed Instances, {prices.instance}, streams on each: {streams}", f"{on_instances(streams, prices):.3f}")
        for streams in (1, 4, 16, 64)
    ]
    heading = f"{ANSWERS:,} answers of {ANSWER_SECONDS} s"
    return table(rows, (heading, f"USD ({prices.region}, {prices.as_of})"))


if __name__ == "__main__":
    print(rest_table(), answers_table(), sep="\n\n")
    print(f"\nA thousand restores of a function cost {restores():.2f} USD.")
    print(f"Instances pay from {break_even():.0f} answers running on average, day and night.")
