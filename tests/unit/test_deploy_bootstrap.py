"""deploy/bootstrap.yaml: who may do what for CI."""

import json
import re
from pathlib import Path

import yaml

from deploy.template import load
from tests.kit.cloudformation import TEMPLATE, Rendered

ROOT = Path(__file__).parents[2]
BOOTSTRAP = load((ROOT / "deploy" / "bootstrap.yaml").read_text())
JOBS = yaml.safe_load((ROOT / ".github" / "workflows" / "deploy.yml").read_text())["jobs"]


def rendered(**parameters):
    return Rendered({"Rules": {}, **BOOTSTRAP}, Repository="somebody/chat", **parameters)


def statements(stack, role):
    """All that a role may do, its shared policies included."""
    found = [s for policy in stack.of(role)["Policies"] for s in policy["PolicyDocument"]["Statement"]]
    for shared in stack.of(role).get("ManagedPolicyArns", []):
        found += stack.of(shared.strip("<>"))["PolicyDocument"]["Statement"]
    return found


def actions(stack, role):
    return {action for statement in statements(stack, role) for action in statement["Action"]}


def test_each_environment_has_a_role_that_only_it_may_take():
    stack = rendered()
    environments = {job["environment"] for job in JOBS.values() if "environment" in job}
    assert environments == {"packaging", "production", "infrastructure"}
    for name in environments:
        (trust,) = stack.of(f"{name.capitalize()}Role")["AssumeRolePolicyDocument"]["Statement"]
        assert trust["Condition"] == {
            "StringEquals": {
                "token.actions.githubusercontent.com:aud": "sts.amazonaws.com",
                "token.actions.githubusercontent.com:sub": f"repo:somebody/chat:environment:{name}",
            }
        }
        assert f"{name.capitalize()}RoleArn" in stack.outputs


def test_an_identity_provider_that_is_there_is_used():
    arn = "arn:aws:iam::111122223333:oidc-provider/token.actions.githubusercontent.com"
    stack = rendered(GitHubProviderArn=arn)
    assert "GitHub" not in stack.names
    (trust,) = stack.of("ProductionRole")["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Federated": arn}


def test_ci_changes_nothing_but_through_change_sets_of_the_one_stack():
    stack = rendered()
    for role in ("PackagingRole", "ProductionRole", "InfrastructureRole"):
        assert not [action for action in actions(stack, role) if action.startswith("iam:") or "*" in action]
        for statement in statements(stack, role):
            places = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
            assert all("aiva-chat" in place or "Artifacts" in place or "transform/" in place for place in places)


def test_packaging_cannot_change_what_runs():
    assert actions(rendered(), "PackagingRole") == {
        *("cloudformation:DescribeStacks", "cloudformation:GetTemplate"),
        *("s3:GetObject", "s3:PutObject", "s3:GetBucketLocation", "s3:ListBucket"),
    }


def test_only_infrastructure_may_set_the_stack_policy():
    stack = rendered()
    may = {
        role
        for role in ("PackagingRole", "ProductionRole", "InfrastructureRole")
        if "cloudformation:SetStackPolicy" in actions(stack, role)
    }
    assert may == {"InfrastructureRole"}


def test_delivering_may_do_all_that_it_does():
    called = set(re.findall(r"self\.cloudformation\.(\w+)\(", (ROOT / "deploy" / "stack.py").read_text()))
    called |= {"get_stack_policy"}
    names = {"cloudformation:" + "".join(word.capitalize() for word in call.split("_")) for call in called}
    assert names <= actions(rendered(), "ProductionRole")


def test_cloudformation_works_for_this_stack_only_and_passes_its_roles_to_three_services():
    stack = rendered()
    (trust,) = stack.of("StackRole")["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Condition"]["ArnLike"]["aws:SourceArn"].endswith(":stack/aiva-chat/*")
    by_sid = {statement["Sid"]: statement for statement in statements(stack, "StackRole")}
    assert set(by_sid["OwnRolesToServices"]["Condition"]["StringEquals"]["iam:PassedToService"]) == {
        f"{service}.amazonaws.com" for service in ("lambda", "codedeploy", "rds")
    }
    anywhere = [sid for sid, statement in by_sid.items() if statement["Resource"] == "*"]
    assert anywhere == ["NetworkAndWhatHasNoNameInAdvance"]


def test_it_may_make_every_secret_of_the_template_and_no_other():
    """CloudFormation names a secret after its logical id."""
    named = set(re.findall(r":secret:(\w+)-\*", json.dumps(statements(rendered(), "StackRole"))))
    assert named == {n for n, r in TEMPLATE["Resources"].items() if r["Type"] == "AWS::SecretsManager::Secret"}


def test_code_is_private_encrypted_and_kept():
    bucket = rendered().resources["Artifacts"]
    assert all(bucket["Properties"]["PublicAccessBlockConfiguration"].values())
    assert bucket["DeletionPolicy"] == "Retain"
    assert bucket["Properties"]["VersioningConfiguration"] == {"Status": "Enabled"}
