"""The Django admin: the base classes of its pages, the sidebar, and the pages for events, the audit trail and users.

Apps import `fleet.admin.pages`. Nothing here imports an app: the sidebar names their models by strings.
"""

from fleet.admin import records

__all__ = ["records"]
