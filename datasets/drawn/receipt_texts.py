"""Texts of receipts and invoices: headings, items, addresses, numbers with a label."""

from __future__ import annotations

import string
from random import Random

from datasets.drawn import number_texts as numbers
from datasets.drawn.words import Vocabulary

_HEADINGS = (
    "Total", "Subtotal", "Sub-Total", "Sub Total", "Grand Total", "Total Amount", "Amount", "Cash",
    "Change", "Change Due", "Balance", "Balance Due", "Rounding", "Rounding Adj.", "Discount",
    "Disc.", "Tax", "Tax Invoice", "Tax Code", "Tax Amount", "GST", "GST Summary", "GST No.",
    "GST ID", "VAT", "VAT No", "Incl. VAT", "Excl. Tax", "Service Charge", "Tip", "Invoice",
    "Invoice No", "Inv. No.", "Receipt", "Receipt No.", "Bill No", "Order No.", "Order", "Table",
    "Table No", "Guests", "Pax", "Cashier", "Served by", "Staff", "Server", "User", "Counter",
    "Terminal", "Till", "Date", "Time", "Date/Time", "Item", "Items", "Item Count", "Qty",
    "Quantity", "Description", "Desc.", "Price", "Unit Price", "U.Price", "Product", "Code",
    "Member No", "Member", "Points", "Card No", "Visa", "MasterCard", "Credit Card", "Debit",
    "Debit Card", "Payment", "Payment Mode", "Paid", "Total Paid", "Total Due", "Net Total",
    "Nett", "Net", "Gross", "Total Sales", "Total Qty", "No. of Items", "Ref No.", "Approval Code",
    "Auth Code", "Batch", "Merchant ID", "Signature", "Tel", "Tel.", "Tel No", "Fax", "Tel/Fax",
    "Phone", "Mobile", "E-mail", "Website", "Reg. No", "Co. Reg No", "Company No.", "Lot No.",
    "Block", "Thank You", "Thank you!", "Thank You For Shopping", "Please Come Again", "Welcome",
    "Goods sold are not returnable", "Exchange within 7 days", "with receipt", "Customer Copy",
    "Merchant Copy", "Duplicate", "Copy", "Closed", "Take Away", "Dine In", "Delivery", "Page",
    "Exchange", "Refund", "Void", "Remark", "Notes", "Salesperson", "Document No.", "Doc No",
    "Summe", "Gesamt", "Gesamtbetrag", "Zwischensumme", "MwSt", "MwSt.", "USt", "inkl. MwSt",
    "Netto", "Brutto", "Bar", "Rückgeld", "Gegeben", "Kasse", "Bediener", "Beleg-Nr.", "Rechnung",
    "Rechnungs-Nr.", "Kunde", "Menge", "Preis", "Steuer", "St.-Nr.", "Vielen Dank", "Uhrzeit",
    "Datum", "EC-Karte", "Kartenzahlung", "Stück", "Tisch", "Montant", "Montant TTC", "TVA",
    "Espèces", "Rendu", "Facture", "Ticket", "Reçu", "Caisse", "Merci", "Merci de votre visite",
    "Total TTC", "Prix", "Qté", "Sous-total", "Carte bancaire", "Importe", "Efectivo", "Cambio",
    "Factura", "Fecha", "Hora", "Cantidad", "Precio", "IVA", "IVA incluido", "Gracias", "Caja",
    "Totale", "Contanti", "Resto", "Scontrino", "Grazie", "di cui IVA", "Reparto", "Troco",
    "Dinheiro", "Obrigado", "Totaal", "BTW", "Wisselgeld", "Contant", "Bedankt", "Kassa", "Summa",
    "Moms", "Kontant", "Tack", "Kvittens", "Kvittering", "I alt", "Takk", "Yhteensä", "Käteinen",
    "Kiitos", "Razem", "Suma PLN", "Gotówka", "Reszta", "Paragon", "Faktura", "Celkem", "DPH",
    "Hotovost", "Děkujeme", "Spolu", "Összesen", "Készpénz", "Köszönjük", "ÁFA", "Toplam", "KDV",
    "Nakit", "Teşekkürler", "Fiş No", "Ukupno", "PDV", "Gotovina", "Hvala", "Račun", "Skupaj",
    "DDV", "Numerar", "Rest", "Bon fiscal", "Viso", "PVM", "Kopā", "PVN", "Kvīts", "Paldies",
)
_LABELS_OF_NUMBERS = (
    "No", "No.", "Nr.", "Nr", "N°", "№", "#", "ID", "Ref", "Ref.", "Inv", "INV-No.", "GST Reg. No",
    "GST ID", "Reg No", "Tel", "TEL/FAX", "Fax", "Ph", "Bill", "Check", "Chk", "Order", "Table",
    "Tbl", "POS", "Trans", "Trn", "TID", "MID", "STAN", "Cashier", "Slip", "Art.", "SKU", "EAN",
    "Code", "Lot", "Unit", "Qty", "Item", "Customer", "Acct", "IBAN", "BIC", "USt-IdNr.", "SIRET",
    "NIP", "IČO", "DIČ", "CVR", "Org.nr", "Y-tunnus", "CUI", "OIB", "Belegnr", "Bon", "Kasse",
)
_LEGAL = ("GmbH", "AG", "Ltd", "LTD.", "Ltd.", "S.A.", "S.r.l.", "S.p.A.", "SARL", "SAS", "B.V.",
          "N.V.", "AB", "A/S", "ApS", "AS", "Oy", "Sp. z o.o.", "s.r.o.", "a.s.", "Kft.", "d.o.o.",
          "SRL", "A.Ş.", "UAB", "SIA", "ehf.", "Inc.", "Inc", "LLC", "Co.", "& Co.", "& Sons",
          "Sdn Bhd", "SDN. BHD.", "(M) Sdn Bhd", "Enterprise", "Trading", "Restaurant", "Hardware",
          "Café", "Bakery", "Market", "Supermarket", "Pharmacy", "Store")
_STREETS = ("Jalan", "Jln", "Lorong", "Taman", "Bandar", "Lot", "Block", "No.", "Level", "Unit",
            "Street", "St.", "Road", "Rd", "Avenue", "Ave", "rue de", "av.", "Via", "Calle",
            "Plaza", "ul.", "Straße", "Platz", "gatan", "vej", "Centre", "Mall", "Floor")
_AFTER = ("", "", "", "", ":", ":", " :", "(RM)", "(EUR)", " (€)", "%", " #", " :", ".", "*", ")")
_AROUND = ("(", ")"), ("*", "*"), ("[", "]"), ("** ", " **"), ("- ", " -"), ("<", ">"), ("= ", " =")


def number(rng: Random, words: Vocabulary) -> str:
    """Returns an entry of a receipt column: an amount, date or code, some with stray signs."""
    del words
    makers = (numbers.amount, numbers.amount, numbers.amount, numbers.amount, numbers.price,
              numbers.integer, numbers.date, numbers.time, numbers.long_number, numbers.phone,
              numbers.measure, numbers.percentage, numbers.serial, numbers.date_time)
    text = rng.choice(makers)(rng)
    kind = rng.random()
    if kind < 0.05:
        return rng.choice((":", ": ", "@", "@ ", "x ", "-", "(", "*", "#", "=", "/")) + text
    if kind < 0.1:
        return text + rng.choice((")", "%", "%)", " %", "*", ":", ",", ".", " x", " @", "-", "#"))
    return f"({text})" if kind < 0.11 else text


def heading(rng: Random, words: Vocabulary) -> str:
    """Returns a heading or the label of an amount."""
    del words
    text = cased(rng, rng.choice(_HEADINGS)) + rng.choice(_AFTER)
    if rng.random() < 0.06:
        opening, closing = rng.choice(_AROUND)
        return opening + text + closing
    return text


def labeled(rng: Random, words: Vocabulary) -> str:
    """Returns a label and its value: `TOTAL RM 12.40`, `Tel: 03-5542 3228`, `Cashier : USER`."""
    colon = rng.choice((": ", ": ", " : ", " :", ":", " ", " ", ". ", " # "))
    kind = rng.random()
    if kind < 0.35:
        value = rng.choice((numbers.amount, numbers.price))(rng)
        return cased(rng, rng.choice(_HEADINGS)) + rng.choice((" ", ": ", " : ", " ")) + value
    label = cased(rng, rng.choice(_LABELS_OF_NUMBERS if kind < 0.8 else _HEADINGS))
    value = rng.choice((numbers.long_number, numbers.serial, numbers.phone, numbers.date_time,
                        numbers.date, numbers.integer))(rng)
    if kind > 0.92:
        value = cased(rng, words.name(rng, "first_name"))
    text = label + colon + value
    return f"({text})" if rng.random() < 0.06 else text


def item(rng: Random, words: Vocabulary) -> str:
    """Returns the name of an item, sometimes with amounts: `TLC FISH SAUCE 725G`."""
    language = words.language(rng)
    name = " ".join(language.pick(rng) for _ in range(rng.randint(1, 4)))
    if rng.random() < 0.15:
        name = " ".join(part[:rng.randint(3, 5)] for part in name.split())
    name = cased(rng, name)
    kind = rng.random()
    if kind < 0.25:
        return f"{name} {numbers.measure(rng)}"
    if kind < 0.37:
        return f"{rng.randint(1, 12)}{rng.choice((' x ', 'x ', ' X ', ' ', '* '))}{name}"
    if kind < 0.47:
        return f"{name} {numbers.amount(rng)}"
    if kind < 0.53:
        return f"{name}{rng.choice((' (', '('))}{rng.choice('SMLAB')})"
    if kind < 0.6:
        letters = "".join(rng.choices(string.ascii_uppercase, k=2))
        return f"{letters}{rng.choice('-. ')}{name}"
    return name


def calculation(rng: Random, words: Vocabulary) -> str:
    """Returns quantities and rates: `2 x 3.50`, `GST @6%`, `3.00 6% SR`."""
    del words
    rate = rng.choice(("0%", "6%", "7%", "19%", "20%", "21%", "5.5%", "10%", "0 %", "8,1%"))
    return rng.choice((
        f"{rng.randint(1, 20)} x {numbers.amount(rng)}",
        f"{rng.randint(1, 9)} @ {numbers.price(rng)}",
        f"{rng.choice(('GST', 'Tax', 'MwSt', 'TVA', 'IVA', 'VAT'))} @{rate}",
        f"{rng.choice(('SR', 'ZR', 'A', 'B', 'S', 'T1'))} ({rate})",
        f"{rng.choice(('Total', 'TOTAL', 'Netto'))} {rate} {numbers.amount(rng)}",
        f"{numbers.amount(rng)} {numbers.amount(rng)}", f"{rate} {numbers.amount(rng)}",
        f"{cased(rng, rng.choice(_HEADINGS))} {rate}:",
        f"{cased(rng, rng.choice(_HEADINGS))} ({cased(rng, rng.choice(_HEADINGS))})"))


def address(rng: Random, words: Vocabulary) -> str:
    """Returns a line of an address or the name of a company."""
    kind = rng.random()
    city = words.name(rng, "city")
    if kind < 0.25:
        text = words.name(rng, "street_address")
    elif kind < 0.4:
        text = f"{numbers.digits(rng, 4, 5)} {city}"
    elif kind < 0.5:
        text = f"{city}, {words.name(rng, 'city')}"
    elif kind < 0.75:
        text = f"{rng.choice(_STREETS)} {words.word(rng)} {numbers.integer(rng)}"
        text = f"{numbers.integer(rng)}, {text}" if rng.random() < 0.4 else text
    elif kind < 0.88:
        text = f"{words.word(rng)} {words.name(rng, 'last_name')} {rng.choice(_LEGAL)}"
    else:
        text = words.name(rng, "company")
    return cased(rng, text) + rng.choice(("", "", "", ",", ",", ".", ""))


def cased(rng: Random, text: str) -> str:
    """Returns a text in upper case half of the time, otherwise in title case or unchanged."""
    kind = rng.random()
    if kind < 0.5:
        return text.upper()
    return " ".join(word[:1].upper() + word[1:] for word in text.split(" ")) if kind < 0.8 else text
