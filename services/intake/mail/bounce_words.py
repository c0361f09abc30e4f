"""The words by which mail servers of many makes say that a message was not delivered."""

import re

from services.intake.mail.phrases import any_of

# Senders that are mail systems.
MAIL_SYSTEM = any_of(r"""
    mailer[-_ .]?da?emon|mdaemon|\bpost-?master\b|mail[-_ .]*deliver\w*[-_ .]*(?:sub)?[-_ .]*system
    delivery[-_ .]*subsystem|mail[-_ .]?system\b|system[-_ .]administrator|mail[-_ .]administrator
    mail[-_ .]?router|smtp[-_ .]?gateway|internet mail delivery|mail delivery|microsoft ?exchange
    microsoftexchange[0-9a-f]{8}|inetgw|\bndr@|\bmta@|bounce[-_]?notif|mailsweeper|mailmarshal
    mail[-_ ]?server\b|mailerdaemon|message delivery|e500_smtp|\bimss@|interscan|undeliverable@|x\.?400
    mail[-_]?error|gateway@
""")

FAILED_SUBJECT = any_of(r"""
    undeliver|non[- ]?deliver|not (?:yet )?(?:be )?(?:been )?deliver|un-?delivered|undeliverable
    returned (?:mail|message|to sender)|returning (?:message|mail|to)
    (?:deliver\w*|mail|message|transport|smtp)\b.{0,25}\b(?:fail|error|problem|delay|warning|impossible|reject)
    (?:deliver\w*|mail|message|transport|smtp)\b.{0,25}\b(?:refused|could not|returned)
    deliver\w*\b.{0,25}\b(?:status|report)
    fail(?:ed|ure)?\b.{0,25}\b(?:deliver|mail|notice|message|notification)|failure notice
    permanent (?:error|fail)|could ?n[o']t (?:be )?(?:deliver|sen[dt])|cannot (?:be )?(?:deliver|send)
    unable to deliver|can't deliver|rejected (?:mail|message)|user unknown
    unknown (?:user|recipient|address)|bad address|address(?:ee)? (?:not found|unknown)
    mailbox (?:full|unavailable|not found)|over quota|delay(?:ed)? (?:mail|message|notif)|message delay
    still being retried|mail error|mail failure|nondeliverable|(?:bounce|bounced) (?:mail|message|notif)
    mail system error|delivery notification|relaying denied|processing error|no such user
    blocked (?:mail|message)|message (?:was )?(?:blocked|undelivered)|unzustellbar|nicht zu(?:ge)?stell
    zustellung.{0,20}(?:fehl|problem)|übermittlung.{0,20}fehl|rückläufer|fehler bei der|mailzustellung
    non remis|échec|echec|non[- ]distribu|non délivr|avis de non|impossible de remettre|message non
    erreur de (?:remise|livraison)|utilisateur non|retour (?:de courrier|à l)
    no (?:se )?(?:ha )?(?:pudo|podido|entreg)|devuelto|no entregad|error (?:de|en la) entrega
    fallo (?:en|de) (?:la )?entrega|entrega fallida|mancat[ao] (?:recapito|consegna)
    impossibile (?:recapitare|consegnare)|non recapitabile|consegna.{0,20}(?:fall|errore)
    não (?:foi )?entreg|falha (?:na|de) entrega|devolvid[ao]|onbestelbaar
    niet (?:worden )?(?:bezorgd|afgeleverd)|kunde inte levereras|olevererbart|ej levererat
    ikke (?:leveres|leveret|levert)|kan ikke lever|nie (?:można|udało).{0,20}dostarcz|niedostarcz
    не (?:может быть )?доставлен|недоставлен|ошибка доставки|не удалось доставить|toimitus.{0,20}epäonnistu
    nedoručiteln|kézbesíthetetlen|teslim edilemedi|配信(?:不能|エラー|失敗|できません)|送信エラー
    配達(?:不能|できません)|返送|戻り|失敗
    エラーメール|退信|投递失败|无法(?:投递|送达|传递)|退回|無法(?:傳遞|投遞|送達)|전송 ?실패|반송|발송 ?실패
""")

FAILED_BODY = any_of(r"""
    (?:could|can|did|was|were|has|have|is|are|been|will)\s*(?:not|n't|n[’o]t)\s+(?:\w+\s+){0,3}?(?:deliver|sent\b|reach)
    (?:could|can|did|was|were|has|have|is|are|been|will)\s*(?:not|n't|n[’o]t)\s+(?:\w+\s+){0,3}?(?:be deliv|relayed)
    (?:could|can|did|was|were|has|have|is|are|been|will)\s*(?:not|n't|n[’o]t)\s+(?:\w+\s+){0,3}?(?:accepted|transmitted)
    cannot\s+(?:\w+\s+){0,2}?(?:deliver|reach|accept|send|process)
    (?:unable|failed)\s+to\s+(?:\w+\s+){0,2}?(?:deliver|reach|send|relay|connect|transfer)
    deliver\w*\s+(?:to\s+)?(?:\w+\s+){0,6}?(?:fail|(?:was|were|is|has been) (?:not |un)?(?:success|delay|reject))
    deliver\w*\s+(?:to\s+)?(?:\w+\s+){0,6}?(?:was|were|is|has been) (?:abort|impossible|suspend|cancel)
    undeliver|non-?deliver|not\s+delivered|automatically\s+rejected
    permanent\s+(?:fatal\s+)?(?:delivery\s+)?(?:error|fail)|fatal (?:delivery )?errors?
    transcript of session follows|returned (?:mail|message|to (?:the )?sender|below|as)|is being returned
    returning (?:your )?(?:message|mail|it)
    (?:failed|bad|invalid|unknown|following|these)\s+(?:e-?mail\s+)?(?:recipient|address|user|mailbox)\w*(?:\(e?s\))?\s*:
    (?:failed|bad|invalid|unknown|following|these)\s+(?:e-?mail\s+)?(?:recipient|address|user|mailbox)\w*(?:\(e?s\))?\s+(?:\w+\s+){0,4}(?:fail|error|reject|unknown)
    (?:failed|bad|invalid|unknown|following|these)\s+(?:e-?mail\s+)?(?:recipient|address|user|mailbox)\w*(?:\(e?s\))?\s+(?:\w+\s+){0,4}(?:not\s+found|refus|problem|was|were|could|had|did)
    user (?:is )?(?:unknown|not found|does(?:n't| not) exist|not listed|doesn't have|over)
    unknown (?:user|recipient|address|local)|no such (?:user|person|recipient|address|mailbox|account)
    recipient (?:address )?(?:\w+ )?(?:rejected|unknown|not found|is over|does not exist)
    recipients?:? (?:was|were|is|are) (?:not|un)
    mailbox (?:is |was )?(?:full|unavailable|not found|disabled|inactive|exceed)
    (?:over|exceed\w*) (?:\w+ ){0,2}(?:quota|storage)|does(?:n't| not) (?:exist|like recipient)
    (?:account|mailbox|address) (?:\w+ ){0,3}(?:disabled|inactive|suspended|discontinued|no longer)
    no longer (?:valid|in use|active|accept|with)
    (?:we're sorry|sorry)[.,]? .{0,60}(?:problem|deliver|wasn't able|unable)|gave up|giving up
    have been undeliverable|message (?:has )?(?:been )?(?:delayed|rejected|refused|blocked|expired|bounced)
    not yet been delivered|delivery (?:attempts|status|failure|problem|error|has failed|report)
    (?:couldn't|can't|wasn't able to|wasn't|weren't|isn't) (?:be |able to )?(?:deliver|find|reach|send)
    delivery\s+.{0,40}delayed|mail (?:could|can) ?not|mail error|smtp error|error from remote
    remote (?:host|server|mail) (?:said|responded|returned|replied|rejected)|5\d\d[ -]#?5\.\d\.\d
    status(?:\scode)?:\s*5\.\d\.\d|\b55[0-4][ -](?:\w|<)
    reason(?:s)? (?:for|of) (?:the )?(?:failure|error|non|rejection)
    errors? (?:occurred|encountered|detail|type)|problems? (?:occurred|delivering|with)|unzustellbar
    nicht\s+(?:\w+\s+){0,3}(?:zugestellt|zustellbar|erreicht|übermittelt|gefunden|weitergeleitet|ausgeliefert)
    konnte\s+nicht|fehlgeschlagen|unbekannt(?:er)? (?:benutzer|empfänger)|n'a pas (?:pu |été )
    n'ont pas (?:pu |été )|pas pu être|n'a pu être|échec de la remise|non (?:distribu|remis|délivr)
    n'existe pas|boîte aux lettres|destinataire .{0,30}inconnu|impossible de
    no (?:se )?(?:ha )?(?:pudo|podido|pudieron|fue)\s+(?:ser )?(?:entreg|envi|lleg)|no (?:existe|entregad)
    entrega .{0,30}(?:fall|error)|buzón|devuelto|non è stato (?:possibile )?(?:recapit|consegn|inoltr)
    impossibile (?:recapitare|consegnare|inviare)|non (?:recapitat|consegnat|esiste)
    não (?:foi|pôde|pode) .{0,20}entreg|não existe|falha na entrega
    niet (?:worden |kunnen ?(?:worden )?)?(?:bezorgd|afgeleverd|verzonden)|onbestelbaar
    kunde (?:inte|ej) (?:levereras|nå)|kunne ikke (?:leveres|nå)|ikke (?:leveres|leveret|levert)
    nie (?:można|mogła|udało|została) .{0,30}(?:dostarcz|doręcz)
    не (?:может быть|была?|удалось|могут) .{0,30}(?:доставлен|доставить|отправлен)|не доставлен|несуществующ
    ei voitu toimittaa|nebylo možné doručit|nem kézbesíthető|teslim edilemedi|配信(?:でき|され|不能|に失敗|エラー)
    送信(?:でき(?:ません|なかった)|に失敗|エラー)|届(?:けでき|かな|きませ)|お届け|見つかりませ|存在しま|宛先不明|不達|失敗しま|无法(?:投递|送达|传递|发送)|退信|投递失败|未能送达
    不存在|無法(?:傳遞|投遞|送達)|전송(?:에|하지| ?실패)|전달(?:되지|할 수|하지)|반송|존재하지
""")

DELAYED = any_of(
    r"""
    (?:not yet been|been) (?:delivered|delayed)\b.{0,80}?(?:yet|retr|attempt|queue|hours|days|warning|still)
    will (?:be|keep|continue) (?:re)?tr(?:ied|y)|still (?:being )?(?:retr|trying)
    not (?:yet )?been delivered|this is a warning|only a warning|just a warning|warning message only
    do not need to (?:resend|take)|no action is required|delivery attempts will continue|will be retried
    delivery (?:\w+ ){0,3}(?:has been |was )?delayed
""",
    flags=re.DOTALL,
)

# Below this stands the returned message, or what somebody quotes or passes on.
RETURNED_BELOW = any_of(
    r"""
    [ \t]{0,9}[-=_*+#]{2,80}.{0,40}\b(?:message|header|headers|original|copy|returned|forwarded|unsent|enclosed|below)\b
    .{0,40}\b(?:copy|text|headers?|body|beginning|start|part) of (?:the|your|this) (?:\w+ ){0,2}(?:message|e?-?mail)
    .{0,40}\bfirst \d+ (?:lines|bytes) of
    .{0,30}\b(?:original|returned|unsent|undelivered|source|failed|your) (?:message|e?-?mail)(?: \w+){0,3} ?follows?\b
    .{0,30}\b(?:original|returned|unsent|undelivered|source|failed|your) (?:message|e?-?mail)(?: \w+){0,3} ?attached\b
    .{0,30}\b(?:original|returned|unsent|undelivered|source|your) (?:message|e?-?mail) ?(?:below|reads|text|headers?)\b
    [ \t]{0,9}(?:original message|forwarded message|begin forwarded|weitergeleitete nachricht|ursprüngliche nachricht)\b
    [ \t]{0,20}(?:message d'origine|message headers?)\b
    [ \t]{0,20}(?:received|return-path|message-id|x-mailer|mime-version):\s
""",
    flags=re.IGNORECASE,
)

WORD_OF_ADDRESSES = any_of(r"""
    recipient|address|deliver|mailbox|user\b|account|reach|failed|unknown|follow|^to:|empfänger|adress
    destinat|ontvanger|mottagar|получател|адрес|宛先|アドレス|收件人|地址
""")

# A person's answer to a bounce, or one passed on: no bounce, whatever its subject says after this.
NOT_A_BOUNCE = re.compile(
    r"\s*(?:re|aw|antw|sv|vs|ref|fwd?|wg|tr|rv|odp|回复|答复|转发)\s*(?:\[\d+\])?\s*:", re.IGNORECASE
)
