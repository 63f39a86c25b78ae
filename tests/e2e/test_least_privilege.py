"""The policies that docs/object-stores.md shows are enough, and no more than enough: run against moto's IAM."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.paths import ROOT

boto3 = pytest.importorskip("boto3")
pytest.importorskip("moto.server")

from pipeline.cli import main as pipeline  # noqa: E402
from pipeline.storage import retry, storage  # noqa: E402
from tests.support.serving import moto_s3  # noqa: E402
from trainer.cli import main as trainer  # noqa: E402

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")]

ROLES = ("pipeline", "trainer", "reader")
TRAIN = ("--data", "s3://pairs/data", "--model", "s3://pairs/model", "--dim", "8", "--device", "cpu", "--overwrite")

#: Uploads in parts begin at 16 MiB; moto says 404, where S3 says 403, to who may not list.
SEEN_ON_S3_ALONE = {(role, "s3:AbortMultipartUpload") for role in ROLES} | {("reader", "s3:ListBucket")}

Policy = dict[str, Any]


def shown_policies() -> dict[str, Policy]:
    """The policies in the order in which the page shows them."""
    page = (ROOT / "docs" / "object-stores.md").read_text()
    blocks = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", page, re.DOTALL)]
    return dict(zip(ROLES, [block for block in blocks if "Statement" in block], strict=True))


class Account:
    """An account of a stand-in for AWS, in which rights are asked for."""

    def __init__(self, address: str, environment: pytest.MonkeyPatch) -> None:
        """Make the bucket and three users; nobody may do anything without a policy from then on."""
        self.address, self.environment = address, environment
        self._use("root", "none")
        self._ask_for_rights(False)
        boto3.client("s3").create_bucket(Bucket="pairs")
        storage.write_bytes("s3://pairs/text/a.txt", b"the fox saw the dog again\n" * 300)
        self.keys = {role: self._make_user(role) for role in ROLES}
        self._ask_for_rights(True)

    def _ask_for_rights(self, asked: bool) -> None:
        count = b"0" if asked else b"1000000"
        url, plain = f"{self.address}/moto-api/reset-auth", {"Content-Type": "text/plain"}
        request = urllib.request.Request(url, count, plain, method="POST")
        with urllib.request.urlopen(request, timeout=10):
            pass

    def _make_user(self, role: str) -> tuple[str, str]:
        iam = boto3.client("iam", endpoint_url=self.address)
        iam.create_user(UserName=role)
        key = iam.create_access_key(UserName=role)["AccessKey"]
        return key["AccessKeyId"], key["SecretAccessKey"]

    def _use(self, key: str, secret: str) -> None:
        self.environment.setenv("AWS_ACCESS_KEY_ID", key)
        self.environment.setenv("AWS_SECRET_ACCESS_KEY", secret)

    def become(self, role: str, policy: Policy) -> None:
        """Do what follows with a role's key, under a policy."""
        self._ask_for_rights(False)
        self._use("root", "none")
        iam = boto3.client("iam", endpoint_url=self.address)
        iam.put_user_policy(UserName=role, PolicyName="p", PolicyDocument=json.dumps(policy))
        self._use(*self.keys[role])
        self._ask_for_rights(True)


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    with moto_s3() as address, pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", address)
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        # moto asks for the right to the bucket itself where objects are removed by one request; S3 for that to each.
        environment.setenv("AWS_DISABLE_BULK_DELETE", "true")
        environment.setattr(retry, "wait_s", lambda *_: 0.0)
        reset(address)
        made = Account(address, environment)
        yield made
        made._ask_for_rights(False)
        reset(address)


def reset(address: str) -> None:
    """Forget all buckets and users: the servers of one process share them."""
    with urllib.request.urlopen(urllib.request.Request(f"{address}/moto-api/reset", method="POST"), timeout=10):
        pass


def make_dataset() -> int:
    flags = ["--min-count", "1", "--sample", "0", "--keep", "1"]
    return pipeline(["--input", "s3://pairs/text/*", "--output", "s3://pairs/data", *flags])


def tidy() -> int:
    """Leave what a dead run leaves, and remove it."""
    storage.write_bytes("s3://pairs/data/runs/dead/vocab.parquet", b"left")
    return pipeline(["clean", "--output", "s3://pairs/data", "--older-than", "0s"])


WORK: dict[str, tuple[Callable[[], int], ...]] = {
    "pipeline": (make_dataset, make_dataset, tidy, lambda: pipeline(["verify", "--output", "s3://pairs/data"])),
    "trainer": (lambda: trainer(["train", *TRAIN]),),
    "reader": (lambda: trainer(["neighbors", "--model", "s3://pairs/model", "fox"]),),
}


def test_each_role_can_do_its_work_and_not_the_others(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    for role, policy in shown_policies().items():
        account.become(role, policy)
        assert [act() for act in WORK[role]] == [0] * len(WORK[role]), capsys.readouterr().err
    capsys.readouterr()
    for role, act in (("trainer", make_dataset), ("reader", WORK["trainer"][0]), ("pipeline", WORK["reader"][0])):
        account.become(role, shown_policies()[role])
        assert act() == 1
        error = capsys.readouterr().err
        assert "AccessDenied" in error
        assert error.count("error: ") == 1


def single_actions(policy: Policy) -> list[tuple[int, str]]:
    found = [
        (n, [one["Action"]] if isinstance(one["Action"], str) else one["Action"])
        for n, one in enumerate(policy["Statement"])
    ]
    return [(number, action) for number, actions in found for action in actions]


def without(policy: Policy, statement: int, action: str) -> Policy:
    statements = [dict(one) for one in policy["Statement"]]
    actions = statements[statement]["Action"]
    statements[statement]["Action"] = [
        one for one in ([actions] if isinstance(actions, str) else actions) if one != action
    ]
    return policy | {"Statement": [one for one in statements if one["Action"]]}


def test_no_right_is_superfluous(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    """Without any one of them some of the role's work fails, in one line."""
    for role, policy in shown_policies().items():
        for statement, action in single_actions(policy):
            if (role, action) in SEEN_ON_S3_ALONE:
                continue
            account.become(role, without(policy, statement, action))
            try:
                statuses = [act() for act in WORK[role]]
            except OSError:  # of tidy's own file
                statuses = [1]
            assert 1 in statuses, (role, action)
            assert "Traceback" not in capsys.readouterr().err
        account.become(role, policy)
        assert [act() for act in WORK[role]] == [0] * len(WORK[role])
