"""The table of scenarios."""

from collections.abc import Mapping

from faultkit import bad_input, kill_points, odd_installations, redis_fails, services_die, store_fails, training_fails
from faultkit.scenario import Scenario

SCENARIOS: Mapping[str, Scenario] = {
    "quiet": Scenario(services_die.quiet),
    "killed": Scenario(services_die.killed),
    "replies dropped": Scenario(services_die.killed_and_replies_dropped, proxied=True),
    "kill points": Scenario(
        kill_points.die_at_each_step, settings=kill_points.SETTINGS, source=kill_points.told_by_file
    ),
    "redis killed": Scenario(redis_fails.killed),
    "redis refuses": Scenario(redis_fails.refuses),
    "redis flushed": Scenario(redis_fails.flushed),
    "redis lost": Scenario(redis_fails.lost),
    "store away": Scenario(store_fails.away),
    "store misbehaves": Scenario(store_fails.misbehaves, proxied=True),
    "store killed": Scenario(store_fails.killed),
    "disk full": Scenario(store_fails.full),
    "malformed": Scenario(bad_input.malformed),
    "repeated": Scenario(bad_input.repeated),
    "drift storm": Scenario(bad_input.storm),
    "training fails": Scenario(training_fails.killed_and_hung, settings=training_fails.SETTINGS),
    "two versions": Scenario(odd_installations.goes_on, source=odd_installations.next_version),
    "clocks off": Scenario(odd_installations.goes_on, source=odd_installations.other_clock),
}
