"""Names that may appear in keys, streams and subjects."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, StringConstraints

NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"
VERSION_PATTERN = r"^[0-9a-f]{12}$"
DIGEST_PATTERN = r"^[0-9a-f]{64}$"
# An event id becomes part of an object key, so it must be harmless there.
EVENT_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Version = Annotated[str, StringConstraints(pattern=VERSION_PATTERN)]
Digest = Annotated[str, StringConstraints(pattern=DIGEST_PATTERN)]
EventId = Annotated[str, StringConstraints(pattern=EVENT_ID_PATTERN)]


def _with_zone(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


# Producers forget the zone, and a naive time cannot be compared with ours: without one a time is UTC.
Moment = Annotated[datetime, AfterValidator(_with_zone)]

# Columns that Tidemill itself writes start with this; users' columns may not.
RESERVED_PREFIX = "tidemill_"
ROW_COLUMN = "tidemill_row"
TIME_COLUMN = "tidemill_time"
ORDINAL_COLUMN = "tidemill_ordinal"
PREDICTION_COLUMN = "tidemill_prediction_id"
