"""The Django admin: the base classes of its pages, the sidebar, and the pages of events, users and keys.

Apps above import `fleet.admin.pages`. Nothing here imports them: the sidebar names their models as text.
"""

from fleet.admin import records

__all__ = ["records"]
