"""The part of a file that the directory keeps: as changes that are tried first, and made when everything else is."""

from collections.abc import Iterator
from typing import Any

from ipc.messages import commands, rules
from ipc.settings import UserSettings
from runtime.auth.directory import Directory, DirectoryRefusal
from runtime.auth.hashes import HashRefusal, kept
from runtime.auth.passwords import hash_password
from runtime.management.bodies import words
from runtime.management.definitions.file import Change, Content, Problems, User, VHost
from runtime.management.documents import queue_type
from runtime.management.errors import BadRequest
from runtime.management.parameters import setting_of


class Refused(Exception):
    """Something of it cannot be; `problems` say what."""


class Accounts:
    """What a file says about users, virtual hosts and what is laid down for them."""

    def __init__(self, directory: Directory, content: Content, problems: Problems, settings: UserSettings) -> None:
        """Blocks: passwords are hashed."""
        self._directory = directory
        self._changes: list[tuple[str, Change]] = []
        for where, wanted in (*self._of_all(content, problems, settings), *self._of_vhosts(content, problems)):
            self._changes.append((where, wanted))

    def try_out(self, problems: Problems) -> None:
        """Find out what would be refused, and leave everything as it is. Blocks on the disk."""
        with self._directory.together(for_good=False):
            self._make(problems)

    def make(self, problems: Problems) -> None:
        """All of it, or nothing: raises Refused. Blocks on the disk."""
        with self._directory.together():
            before = problems.count
            self._make(problems)
            if problems.count > before:
                raise Refused

    def _make(self, problems: Problems) -> None:
        for where, change in self._changes:
            try:
                change()
            except DirectoryRefusal as refusal:
                problems.add(where, str(refusal))

    # what is to be changed --------------------------------------------------------------------------------------------

    def _of_all(self, content: Content, problems: Problems, settings: UserSettings) -> Iterator[tuple[str, Change]]:
        directory = self._directory
        for user in content.users:
            where = f"user '{user.name}'"
            try:
                yield where, _put_user(directory, user, settings)
            except HashRefusal as refusal:
                problems.add(where, str(refusal))
        for vhost in content.vhosts:
            yield f"vhost '{vhost.name}'", _put_vhost(directory, vhost)
        for parameter in content.global_parameters:
            yield (
                f"global parameter '{parameter.name}'",
                _bound(directory.set_global_parameter, parameter.name, parameter.value),
            )

    def _of_vhosts(self, content: Content, problems: Problems) -> Iterator[tuple[str, Change]]:
        directory = self._directory
        for granted in content.permissions:
            yield (
                f"permissions of user '{granted.user}' in vhost '{granted.vhost}'",
                _bound(
                    directory.set_permissions,
                    granted.user,
                    granted.vhost,
                    commands.Permissions(granted.configure, granted.write, granted.read),
                ),
            )
        for topic in content.topic_permissions:
            yield (
                f"topic permissions of user '{topic.user}' in vhost '{topic.vhost}'",
                _bound(
                    directory.set_topic_permissions,
                    topic.user,
                    topic.vhost,
                    commands.TopicPermissions(topic.exchange, topic.write, topic.read),
                ),
            )
        for parameter in content.parameters:
            where = f"parameter '{parameter.name}' of {parameter.component} in vhost '{parameter.vhost}'"
            try:
                yield (
                    where,
                    setting_of(directory, parameter.vhost, parameter.component, parameter.name, parameter.value),
                )
            except BadRequest as refusal:
                problems.add(where, refusal.reason)
        for policy in content.policies:
            made = rules.Policy(policy.name, policy.pattern, policy.definition, policy.apply_to, policy.priority)
            yield f"policy '{policy.name}' in vhost '{policy.vhost}'", _bound(directory.set_policy, policy.vhost, made)


def _bound(change: Any, *arguments: Any) -> Change:
    return lambda: change(*arguments)


def _put_user(directory: Directory, user: User, settings: UserSettings) -> Change:
    """Raises HashRefusal."""
    if user.password is not None and not user.password_hash:
        password_hash = hash_password(user.password, settings)
    else:
        password_hash = kept(user.password_hash, user.hashing_algorithm)

    def change() -> None:
        with directory.together():
            directory.put_user(user.name, password_hash, words(user.tags))
            if user.limits is not None:
                directory.clear_user_limits(user.name)
                for name, limit in user.limits.items():
                    directory.set_user_limit(user.name, name, limit)

    return change


def _put_vhost(directory: Directory, vhost: VHost) -> Change:
    """What the file does not say stays as it is."""
    said = {"description": vhost.description, "tags": vhost.tags, "default_queue_type": vhost.default_queue_type}
    said = {name: value if value is not None else vhost.metadata.get(name) for name, value in said.items()}
    found = directory.find_vhost(vhost.name)
    description = said["description"]
    tags = said["tags"]
    if found is not None:
        description = found.description if description is None else description
        tags = list(found.tags) if tags is None else tags
    chosen = said["default_queue_type"]
    if chosen is None and found is not None:
        chosen = found.default_queue_type

    def change() -> None:
        directory.put_vhost(
            vhost.name,
            description=str(description or ""),
            tags=words(tags if isinstance(tags, str) else [str(tag) for tag in tags or ()]),
            default_queue_type=queue_type(str(chosen or "")),
        )

    return change
