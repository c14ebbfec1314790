"""What a service remembers of its work. Knows nothing of HTTP; importing it needs the extra `serve`."""

from refsynth.core.extras import require

require("sqlalchemy", extra="serve")
