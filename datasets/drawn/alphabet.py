"""The characters that labels are made of: the alphabet of the built-in model `latin`."""

from __future__ import annotations

ASCII = "".join(map(chr, range(32, 127)))  # with the space
LOWER = (
    "àáâãäåāăąæçćĉċčďđðèéêëēėęěĝğġģĥħìíîïĩīįıĵķĺļľłñńņňŋòóôõöøōőœŕŗřśŝşšșßſťŧțþ"
    "ùúûüũūŭůűųŵẁẃẅýÿŷỳźżžə"
)
UPPER = (
    "ÀÁÂÃÄÅĀĂĄÆÇĆĈĊČĎĐÐÈÉÊËĒĖĘĚĜĞĠĢĤĦÌÍÎÏĨĪĮİĴĶĹĻĽŁÑŃŅŇŊÒÓÔÕÖØŌŐŒŔŖŘŚŜŞŠȘẞŤŦȚÞ"
    "ÙÚÛÜŨŪŬŮŰŲŴẀẂẄÝŸŶỲŹŻŽƏ"
)
CURRENCY = "¢£¥€₹₽₺₴₩₪₫₱₦₿"
SIGNS = "“”„‚‘’«»‹›–—…•·°§¶©®™±×÷½¼¾¹²³µªº¡¿№†‡‰⸗¬"

ALPHABET = ASCII + LOWER + UPPER + CURRENCY + SIGNS
RARE = LOWER + UPPER + CURRENCY + SIGNS  # too rare in everyday text to be learned from it
