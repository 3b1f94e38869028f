"""Operations on users and machine keys, for the commands, the admin and the API. All changes are audited."""

from fleet.access.operations.keys import (
    KEY_PREFIX,
    MAX_KEYS,
    CreatedKey,
    authenticate_key,
    create_key,
    revoke_key,
    serialize_key,
)
from fleet.access.operations.users import (
    create_user,
    draft_user,
    find_user,
    inherited_execute,
    require_other_admin,
    serialize_user,
    set_active,
    set_execute,
    set_password,
    set_role,
)

__all__ = [
    "KEY_PREFIX",
    "MAX_KEYS",
    "CreatedKey",
    "authenticate_key",
    "create_key",
    "create_user",
    "draft_user",
    "find_user",
    "inherited_execute",
    "require_other_admin",
    "revoke_key",
    "serialize_key",
    "serialize_user",
    "set_active",
    "set_execute",
    "set_password",
    "set_role",
]
