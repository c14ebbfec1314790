"""Record predictions and feedback in a database. Knows nothing of HTTP. Importing it needs the extra `serve`."""

from refsynth.core.extras import require

require("sqlalchemy", extra="serve")
