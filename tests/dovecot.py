"""A real IMAP server for a test: Debian's Dovecot as an ordinary process, with its mail in a folder of its own."""

import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

from imapclient import IMAPClient

from deploy.local.process import Process, answers, free_port

PROGRAM = shutil.which("dovecot") or "/usr/sbin/dovecot"  # not in everybody's PATH
PASSWORD = "for-tests-only"
COMMON = """
protocols = imap
listen = 127.0.0.1
base_dir = {run}
state_dir = {run}
log_path = {folder}/dovecot.log
ssl = no
default_internal_user = {internal}
default_internal_group = {group}
default_login_user = {login}
first_valid_uid = 1
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service anvil {{
  chroot =
}}
"""
BEFORE_2_4 = """
disable_plaintext_auth = no
mail_location = maildir:~/Maildir
mail_max_userip_connections = 100
{capability}
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={folder}/%u
}}
"""
SINCE_2_4 = """
auth_allow_cleartext = yes
mail_driver = maildir
mail_path = ~/Maildir
{capability}
passdb static {{
  password = {password}
}}
userdb static {{
  fields {{
    uid = {uid}
    gid = {gid}
    home = {folder}/%{{user}}
  }}
}}
"""


class Dovecot:
    """Every user name has a mailbox; all have one password."""

    def __init__(self, folder: Path, *, capability: str = "") -> None:
        self.port = free_port()
        self._folder = folder
        root = os.getuid() == 0
        mine = pwd.getpwuid(os.getuid())
        user = pwd.getpwnam("nobody") if root else mine  # Dovecot keeps no mail as root
        run = folder / "run"
        run.mkdir()
        folder.chmod(0o755)
        if root:
            os.chown(folder, user.pw_uid, user.pw_gid)
        version = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout
        newer = tuple(map(int, re.findall(r"\d+", version)[:2])) >= (2, 4)
        heads = "dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0\n" if newer else ""
        text = (COMMON + (SINCE_2_4 if newer else BEFORE_2_4)).format(
            run=run,
            folder=folder,
            internal="dovecot" if root else mine.pw_name,
            group="dovecot" if root else os.getgid(),
            login="dovenull" if root else mine.pw_name,
            port=self.port,
            capability=f"imap_capability = {capability}" if capability else "",
            password=PASSWORD,
            uid=user.pw_uid,
            gid=user.pw_gid,
        )
        self._config = folder / "dovecot.conf"
        self._config.write_text(
            heads + "\n".join(line for line in text.splitlines() if not line.endswith("capability = "))
        )
        self.start()

    def start(self) -> None:
        self._process = Process([PROGRAM, "-F", "-c", str(self._config)], log=self._folder / "output.log")
        deadline = monotonic() + 15
        while not answers(self.port):
            if not self._process.running() or monotonic() > deadline:
                raise AssertionError(f"Dovecot did not start: {self._process.last_words()}")
            sleep(0.02)

    def stop(self) -> None:
        self._process.stop()

    def url(self, user: str, mailbox: str = "INBOX", port: int | None = None) -> str:
        return f"imap://{user}@127.0.0.1:{port or self.port}/{mailbox}"

    @contextmanager
    def client(self, user: str, mailbox: str = "INBOX") -> Iterator[IMAPClient]:
        with IMAPClient("127.0.0.1", self.port, ssl=False) as client:
            client.login(user, PASSWORD)
            client.select_folder(mailbox)
            yield client

    def append(self, user: str, *messages: bytes, mailbox: str = "INBOX") -> None:
        with self.client(user) as client:
            for message in messages:
                client.append(mailbox, message)

    def flags(self, user: str, mailbox: str = "INBOX") -> list[set[bytes]]:
        """Of each message that is there."""
        with self.client(user, mailbox) as client:
            found = client.get_flags(client.search())
        return [set(flags) - {rb"\Recent"} for _, flags in sorted(found.items())]


@contextmanager
def dovecot(**options: str) -> Iterator[Dovecot]:
    if not Path(PROGRAM).exists():
        raise AssertionError("Dovecot is missing: apt-get install dovecot-imapd, or make test")
    folder = Path(tempfile.mkdtemp(prefix="imap-"))
    try:
        server = Dovecot(folder, **options)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
