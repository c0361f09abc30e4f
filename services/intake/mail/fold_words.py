"""The words by which mail programs say, in the languages people write to us in, that they quote or forward."""

import re

from services.intake.mail.phrases import any_of

_NAMES = {
    "from": "from|von|de|da|van|från|fra|od|från|от|от кого|lähettäjä|kimden|gönderen|发件人|寄件者|差出人|보낸 사람"
    "|feladó|expéditeur|remitente|mittente|nadawca|odesílatel|od koho|από|від|oddawca|de la|oт",
    "date": "sent|date|gesendet|gesendet am|datum|envoyé|envoyé le|enviado|enviado el|enviada|enviada em|inviato|data"
    "|verzonden|skickat|sendt|dato|wysłano|отправлено|дата|lähetetty|päivämäärä|gönderme tarihi|gönderildi|tarih|fecha"
    "|发送时间|寄件日期|日期|送信日時|日時|odesláno|elküldve|dátum|received|sent at|date sent|보낸 날짜|trimis"
    "|надіслано|дата отправки|sent on",
    "to": "to|an|à|a|para|aan|till|til|do|кому|kime|alıcı|vastaanottaja|收件人|收件者|宛先|받는 사람|komu|címzett"
    "|destinataire|per|destinatario|προς|către|adresat|pour",
    "subject": "subject|betreff|objet|asunto|oggetto|assunto|onderwerp|ämne|emne|temat|тема|aihe|konu|主题|主旨|件名"
    "|제목|předmět|tárgy|sujet|θέμα|subiect|re",
}
HEADER_NAMES = {word: kind for kind, words in _NAMES.items() for word in words.split("|")}

WROTE = any_of(
    r"""
    wrote|writes|said|schrieb|geschrieben|a écrit|écrit|escribió|ha scritto|scritto|scrisse|escreveu|schreef
    geschreven|skrev|skrivit|napisała?|pisze|написала?|писала?|пишет|пише|kirjoitti|yazdı|şunu yazdı|napsala?
    napísala?|írta|a scris|έγραψε|viết
    """,
    before=r"\b",
    after=r"\b|写道|寫道|のメッセージ|書きました|작성",
)

ORIGINAL_MESSAGE = any_of(
    r"""
    original (?:message|appointment|e-?mail)|ursprüngliche (?:nachricht|mail)|originalnachricht
    message d['’]origine|message original|mensaje original|messaggio originale|mensagem original
    oorspronkelijk bericht|origineel bericht|original(?:t )?meddelande|ursprungligt meddelande
    oprindelig meddelelse|opprinnelig melding|alkuperäinen viesti|wiadomość oryginalna|oryginalna wiadomość
    исходное сообщение|původní zpráva|eredeti üzenet|orijinal mesaj|mesaj original|reply message|原始邮件|原始郵件
    元のメッセージ|원본 메시지
""",
    before=r"\s*[-_=*]{2,}\s*",
    after=r".{0,80}$|\s*-{2,}\s*on\b.{5,300}\bwrote\s*:?\s*-{2,}\s*$",
)

FORWARDED_MESSAGE = any_of(
    r"""
    forwarded (?:message|e-?mail|mail|by)|weitergeleitete? (?:nachricht|mail|von)
    message (?:transféré|transmis)|mensaje reenviado|messaggio inoltrato|mensagem (?:re)?encaminhada
    doorgestuurd bericht|vidarebefordrat meddelande|videresendt (?:meddelelse|melding)|välitetty viesti
    wiadomość przekazana|przekazana wiadomość|пересылаемое сообщение|переслан\w* сообщени\w*
    přeposlaná zpráva|továbbított üzenet|iletilen mesaj|转发邮件|转发的邮件|轉寄的郵件|転送メッセージ|전달된 메시지
""",
    before=r"\s*[-_=*]{2,}\s*",
    after=r".{0,120}$",
)
FORWARD_BEGINS = any_of(
    r"""
    begin forwarded message|start of forwarded message|anfang der weitergeleiteten (?:nachricht|e-?mail)
    début du message (?:réexpédié|transféré)|inicio del mensaje reenviado
    inizio (?:del )?messaggio inoltrato|início da mensagem (?:re)?encaminhada|begin doorgestuurd bericht
    vidarebefordrat brev|start på videresendt besked|välitetty viesti alkaa
    początek przekazywanej wiadomości|начало переадресованного сообщения
""",
    before=r"\s*\**\s*",
    after=r"\s*[:：]\s*\**\s*$",
)
FORWARD_SUBJECT = re.compile(
    r"\s*(?:\[[^\]]{0,60}\]\s*)?(?:fwd?|wg|tr|rv|i|enc|vb|vl|pd|doorst|转发|轉寄)\s*[:：]", re.IGNORECASE
)

SEE_BELOW = any_of(
    r"""
    fyi|f\.y\.i|for your information|please (?:see|find|read|refer to)\b.{0,60}\b(?:below|following)
    see (?:the )?(?:\w+ ){0,3}below|(?:e-?mail|message|enquiry|query|request|note) (?:\w+ ){0,3}below
    (?:chain|trail|thread|correspondence) (?:\w+ ){0,3}below|below (?:is|are|for|please)|as below
    forward(?:ing|ed)?|passing (?:this|it) on|siehe unten|voir ci-dessous|zur info
    """,
    before=r"\b",
    after=r"\b",
)

SENT_FROM = any_of(
    r"""
    sent (?:from|with|via|using|by) (?:my|the|an?|yahoo|outlook|mail|sparrow|samsung|proton|aol|mobile|gmail|windows)\b
    sent from|sent via|get outlook for|download outlook for|gesendet (?:von|mit)|von meinem .{0,30} gesendet
    envoyé (?:de|depuis|à partir)|enviado (?:desde|do|de|via)|inviato da|verzonden (?:vanaf|met|via)
    skickat från|sendt fra|wysłan[eo] z|отправлено (?:с|из)|lähetetty|odesláno z|发自我的|iphoneから送信
    via mobile|bezoek outlook|holen sie sich outlook|obtenir outlook|télécharger outlook|obtener outlook
    """,
    before=r"\s*[-*_\[(<]*\s*",
    after=r".{0,150}$",
)

SIGN_OFF = any_of(
    r"""
    (?:with )?(?:very )?(?:kind|best|warm|warmest|kindest|many|all)?\s*(?:regards|wishes|thanks|the best)
    best|cheers|thank you(?: very much)?|thanks(?: again| in advance| so much)?
    yours(?: (?:sincerely|faithfully|truly))?|sincerely|respectfully|rgds|br|kr|mit freundlichen grüßen
    viele grüße|cordialement|bien à vous|saludos|un saludo|atentamente|cordiali saluti|saluti
    met vriendelijke groet(?:en)?|med vänliga hälsningar|mvh|med venlig hilsen|pozdrawiam|с уважением
    """,
    after=r"[\s,.!-]*",
)
