"""The log drivers, by the names that users have for them."""

from collections.abc import Mapping

from orlop.logdrivers.driver import Driver
from orlop.logdrivers.fluentd import Fluentd
from orlop.logdrivers.journald import Journald
from orlop.logdrivers.syslog import Syslog

DRIVERS: Mapping[str, type[Driver]] = {
    "fluentd": Fluentd,
    "journald": Journald,
    "syslog": Syslog,
}
