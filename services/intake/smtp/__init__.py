"""The SMTP and LMTP listener: yes only after the message is durable, and no client holds up another.

Built on aiosmtpd, less the parts that are wrong for a gateway: it reads DATA line by line and refuses long
lines, answers LMTP's DATA once instead of once for each recipient (RFC 2033 section 4.2), logs addresses, and
closes on a slow client without a word. Sources: RFC 5321, 2033, 2034, 2920, 3207.
"""

from services.intake.smtp.conversation import Protocol
from services.intake.smtp.door import LOOPBACK, DoorOptions, Networks
from services.intake.smtp.listener import Listener, ListenerOptions

__all__ = ["LOOPBACK", "DoorOptions", "Listener", "ListenerOptions", "Networks", "Protocol"]
