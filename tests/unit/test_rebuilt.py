"""An application that is built anew at every start but the first."""

from snapshot_restore_py import get_after_restore

from chat.http.rebuilt import Rebuilt
from chat.settings import SettingsError
from chat.wiring import lambda_handler


class Building:
    """Counts; each application answers with the number of its building."""

    def __init__(self):
        self.count = 0
        self.failure = None

    def __call__(self):
        if self.failure:
            raise self.failure
        self.count += 1
        number = self.count

        async def application(scope, receive, send):
            await send({"type": f"answer of {number}"})

        return application


async def ask(app, kind="http"):
    sent = []

    async def receive():
        return {"type": "lifespan.startup"}

    async def send(message):
        sent.append(message)

    await app({"type": kind}, receive, send)
    return sent[0]


async def test_the_first_start_takes_what_was_built_at_import_and_later_ones_build_anew():
    building = Building()
    app = Rebuilt(building)
    assert building.count == 1
    for number in (1, 2, 3):
        assert (await ask(app, "lifespan"))["type"] == f"answer of {number}"
        assert (await ask(app))["type"] == f"answer of {number}"


async def test_a_setting_that_is_wrong_after_a_restore_fails_the_start_and_never_serves_the_old():
    building = Building()
    app = Rebuilt(building)
    await ask(app, "lifespan")
    building.failure = SettingsError("MYSQL_URL is not set")
    failed = await ask(app, "lifespan")
    assert failed == {"type": "lifespan.startup.failed", "message": "SettingsError: MYSQL_URL is not set"}


async def test_awss_own_runtime_has_it_rebuilt_after_a_restore():
    building = Building()
    known = len(get_after_restore())
    app = Rebuilt(building)
    lambda_handler(app)
    ((hook, positional, named),) = get_after_restore()[known:]
    hook(*positional, **named)
    assert building.count == 2
    assert (await ask(app))["type"] == "answer of 2"
