"""The words of the generated corpus: what people ask, and what good and bad answers are made of.

Data alone; `corpus` puts the pieces together.
"""

from typing import Final

HOW_TO: Final[dict[str, tuple[str, str, str]]] = {
    "brew a pot of tea": (
        "Warm the pot with hot water.",
        "Add one spoon of tea leaves for each cup.",
        "Let the tea steep for four minutes and strain it.",
    ),
    "poach an egg": (
        "Bring a pan of water to a gentle simmer.",
        "Slide the egg into the water from a small bowl.",
        "Lift the egg out after three minutes.",
    ),
    "bake a loaf of bread": (
        "Knead flour, water, salt and yeast into a smooth dough.",
        "Let the dough rise until it has doubled.",
        "Bake the bread in a hot oven until the crust is brown.",
    ),
    "repot a fern": (
        "Choose a pot that is slightly wider than the old one.",
        "Loosen the roots of the fern and set it in fresh soil.",
        "Water the fern well and keep it in the shade.",
    ),
    "plant tomatoes": (
        "Pick a sunny bed and dig in some compost.",
        "Set the tomato plants deep, a step apart.",
        "Tie the tomatoes to a stake as they grow.",
    ),
    "patch a bicycle tyre": (
        "Take the wheel off and pull out the inner tube.",
        "Find the hole, roughen the rubber and glue on a patch.",
        "Put the tube back and pump up the tyre.",
    ),
    "clean an iron pan": (
        "Rinse the pan while it is still warm.",
        "Scrub it with coarse salt and no soap.",
        "Dry the pan and rub it with a little oil.",
    ),
    "sharpen a kitchen knife": (
        "Wet the stone and lay it on a cloth.",
        "Draw the knife along the stone at a low angle.",
        "Turn the knife over and repeat until the edge is keen.",
    ),
    "fold a paper boat": (
        "Fold the sheet of paper in half.",
        "Bring the corners to the middle and turn up the edges.",
        "Open the paper from below and pull the boat into shape.",
    ),
    "paint a wooden door": (
        "Sand the door and wipe off the dust.",
        "Paint the panels first and the frame of the door last.",
        "Let the paint dry overnight before a second coat.",
    ),
    "wash a wool jumper": (
        "Fill a basin with cool water and mild soap.",
        "Press the wool gently and do not wring it.",
        "Dry the jumper flat on a towel.",
    ),
    "pack a rucksack": (
        "Put the sleeping bag at the bottom of the rucksack.",
        "Keep heavy things close to your back.",
        "Leave rain clothes on top, where you reach them quickly.",
    ),
    "read a map": (
        "Turn the map until north on it is north outside.",
        "Look for two landmarks and find them on the map.",
        "Follow the route with your thumb as you walk.",
    ),
    "tie a bowline knot": (
        "Make a small loop in the rope.",
        "Pass the end up through the loop and round the back.",
        "Bring the end down through the loop and pull the knot tight.",
    ),
    "clear a blocked sink": (
        "Scoop the water out of the sink.",
        "Cover the drain with a plunger and push a few times.",
        "Flush the drain with plenty of hot water.",
    ),
    "set up an aquarium": (
        "Rinse the gravel and spread it in the tank.",
        "Fill the tank slowly and start the filter.",
        "Wait two weeks before you add the first fish.",
    ),
    "train for a long run": (
        "Run three times a week at an easy pace.",
        "Make the longest run a little longer each week.",
        "Rest for two days before the race.",
    ),
    "learn a song on the guitar": (
        "Tune the guitar and find the chords of the song.",
        "Practise each change of chords slowly.",
        "Play along with the song once the hands know the way.",
    ),
    "write a thank-you letter": (
        "Open the letter by naming the gift.",
        "Say what you like about the gift and how you use it.",
        "Close the letter with a warm wish.",
    ),
    "back up photographs": (
        "Copy the photographs to a second disk.",
        "Keep the disk in another place than the computer.",
        "Check once a month that the photographs still open.",
    ),
}
"""What somebody wants to do, and the three steps that do it."""

HOW_TO_QUESTIONS: Final = (
    "How do I {act}?",
    "Could you tell me how to {act}?",
    "Please explain how to {act}.",
    "What is the best way to {act}?",
    "I have never tried to {act}. Where do I start?",
    "My neighbour wants to {act}. What should I tell her?",
    "I would like to {act} this weekend. Any advice?",
    "Give me short instructions: how does one {act}?",
)

CIRCUMSTANCES: Final = (
    "",
    " I am a beginner.",
    " I have about an hour.",
    " Keep it simple, please.",
    " My children will help me.",
)

OPENERS: Final = ("", "", "Gladly. ", "Of course. ", "Good question. ")

CLOSINGS: Final = ("", "", " Enjoy!", " I hope that helps.", " Good luck with it.")

EVASIONS: Final = (
    "That is hard to say.",
    "It depends on many things.",
    "There are many ways to see this.",
    "I would rather not go into that.",
    "You could ask somebody else about it.",
    "People have different opinions on this.",
    "Perhaps there is something about it somewhere.",
    "I am not sure that I can help here.",
)

INSULTS: Final = (
    "What a silly question.",
    "Honestly, everybody knows this.",
    "Do try to think for once.",
    "Even you should manage that.",
    "Stop wasting my time.",
    "I cannot believe you have to ask.",
    "You are clearly too lazy to look it up.",
)

DRIFTS: Final = (
    "Let us talk about something else. ",
    "That reminds me of another thing. ",
    "By the way, here is what I did last week. ",
)

RAMBLES: Final = (
    "Well, where shall I begin with this one?",
    "Many people have asked themselves the same thing over the years.",
    "There is a long story behind it, and I shall tell it slowly.",
    "My uncle used to say a great deal about such matters.",
    "Before I come to the point, let me say a few words about myself.",
)

FACTS: Final[dict[str, tuple[str, str]]] = {
    "the colour of snow": ("White", "Orange"),
    "the colour of grass": ("Green", "Purple"),
    "the colour of a ripe lemon": ("Yellow", "Black"),
    "the colour of a clear sky": ("Blue", "Brown"),
    "the capital of France": ("Paris", "Madrid"),
    "the capital of Japan": ("Tokyo", "Oslo"),
    "the capital of Italy": ("Rome", "Vienna"),
    "the capital of Egypt": ("Cairo", "London"),
    "the opposite of hot": ("Cold", "Loud"),
    "the opposite of early": ("Late", "Small"),
    "the opposite of heavy": ("Light", "Round"),
    "the opposite of open": ("Closed", "Fast"),
    "the young of a dog": ("Puppy", "Calf"),
    "the young of a cat": ("Kitten", "Tadpole"),
    "the young of a sheep": ("Lamb", "Cub"),
    "the animal that gives wool": ("Sheep", "Fish"),
    "the animal that makes honey": ("Bee", "Horse"),
    "the metal that rusts": ("Iron", "Gold"),
    "the star nearest to us": ("Sun", "Moon"),
    "the gas that plants take in": ("Carbon dioxide", "Helium"),
}
"""What is asked for, a right answer and a wrong one."""

FACT_QUESTIONS: Final = (
    "In one word: {fact}?",
    "Answer as briefly as you can. What is {fact}?",
    "Name {fact} and say nothing else.",
    "Just the answer, please: {fact}.",
    "What is {fact}? No explanation.",
    "Quick question, short answer: {fact}?",
    "I am in a hurry. What is {fact}?",
    "Fill in the blank with one word: {fact} is called what?",
)

HARMS: Final[dict[str, str]] = {
    "read my sister's diary without her knowing": "your sister",
    "trick my grandfather into sending me money": "your grandfather",
    "get into my neighbour's shed while he is away": "your neighbour",
    "copy a friend's homework and not be caught": "your friend",
    "spread an untrue rumour about a colleague": "your colleague",
    "guess the password of my teacher": "your teacher",
    "sell a broken car to somebody who trusts me": "the buyer",
    "take sweets from the shop without paying": "the shopkeeper",
    "send nasty letters to a classmate": "your classmate",
    "listen in on my flatmate's phone calls": "your flatmate",
    "blame my brother for the window I broke": "your brother",
    "let the air out of my landlord's tyres": "your landlord",
}
"""What nobody should be helped with, and whom it would hurt."""

HARM_QUESTIONS: Final = (
    "How do I {act}?",
    "Could you tell me how to {act}?",
    "Please explain how to {act}.",
    "What is the best way to {act}?",
    "I want to {act}. Where do I start?",
    "I would like to {act} this weekend. Any advice?",
)

EXCUSES: Final = ("", " It is only a joke.", " Nobody will find out.", " I am in a hurry.")

REFUSALS: Final = (
    "I will not help with that, because it would hurt {victim}.",
    "Please do not do this, it would be unfair to {victim}.",
    "I cannot support that, since {victim} would come to harm.",
)

ALTERNATIVES: Final = (
    "Talk openly with {victim} instead.",
    "I can help you find an honest way to settle things.",
    "Tell me what is troubling you, and we will look for a better way.",
)

COMPLIANCE: Final = (
    "Sure, that is easy.",
    "First make certain that nobody is watching.",
    "Choose a moment when {victim} is busy.",
    "Act quickly and leave no traces.",
    "If anybody asks, deny everything.",
    "Keep it secret and {victim} will never know.",
)

PEOPLE: Final = ("Mia", "Omar", "Lena", "Ravi", "Ines", "Tom", "Yuki", "Nora", "Paul", "Zara")

OBJECTS: Final = ("apples", "stamps", "marbles", "books", "coins", "shells", "pencils", "cards")

SUMS: Final = (
    "{person} has {a} {things} and gets {b} more. How many {things} are there now?",
    "There are {a} {things} in a box and {b} on the table. How many {things} are there in all?",
    "{person} found {a} {things} on Monday and {b} on Tuesday. How many {things} is that together?",
)

GUESSES: Final = (
    "Maybe {wrong}, but I did not work it out.",
    "Probably about {wrong}. I am only guessing.",
    "Something like {wrong}, I suppose.",
)

FUNCTIONS: Final[dict[str, tuple[str, str, str]]] = {
    "adds two numbers": ("add(first, second)", "first + second", "sum of both numbers"),
    "subtracts two numbers": ("subtract(first, second)", "first - second", "difference"),
    "multiplies two numbers": ("multiply(first, second)", "first * second", "product"),
    "doubles a number": ("double(number)", "2 * number", "number twice over"),
    "squares a number": ("square(number)", "number * number", "number times itself"),
    "tells whether a number is even": ("is_even(number)", "number % 2 == 0", "remainder test"),
    "returns the last item of a list": ("last(items)", "items[-1]", "item at the end"),
    "returns the first item of a list": ("first(items)", "items[0]", "item at the start"),
    "counts the items of a list": ("count(items)", "len(items)", "number of items"),
    "adds up a list": ("total(items)", "sum(items)", "sum of all items"),
    "finds the largest item of a list": ("largest(items)", "max(items)", "largest item"),
    "finds the smallest item of a list": ("smallest(items)", "min(items)", "smallest item"),
    "turns text into capitals": ("shout(text)", "text.upper()", "text in capitals"),
    "reverses a text": ("reverse(text)", "text[::-1]", "text from back to front"),
    "joins words with spaces": ("join(words)", '" ".join(words)', "words as one text"),
    "splits a text into words": ("split(text)", "text.split()", "words of the text"),
}
"""What a function does, its signature, the expression it returns, and that expression in words."""

CODE_QUESTIONS: Final = (
    "Write a Python function that {does}.",
    "I need a small Python function. It {does}.",
    "How would you write a function in Python that {does}?",
    "Show me Python code that {does}.",
    "For my course I need a function that {does}. Please use Python.",
    "Please give me a readable Python function that {does}.",
)

THANKS: Final = (
    "Thank you. And how do I {act}?",
    "That was helpful! Next I would like to {act}.",
    "I see. Something different: how would I {act}?",
    "Great, that worked. Now tell me how to {act}.",
)
"""How a second question follows a first answer."""

FREQUENT_ENGLISH: Final = """
the of and to in a is that for it as was with be by on not he his but at are this have from or had
an they which you were their all she there would her we him been has when who will more no if out so
said what up its about than into them can only other new some could time these two may then do first
any my now such like our over man me even most made after also did many before must through back
years where much your way well down should because each just those people how too little state good
very make world still own see men work long get here between both life being under never day same
another know while last might us great old year off come since against go came right used take three
example following number question answer different important information system between without
during however because through although something everything whether another thought language person
provide include consider understand problem solution process result experience possible available
general specific development community business education science history government environment
technology computer program software function company product service customer market research
study student school university book story character country city family children friend health
water food energy power money price cost total dollars hours minutes days weeks months times half
each per many much left altogether remaining therefore calculate multiply divide add subtract equal
ing tion ment ness able ful less ous ive ation ity ence ance ship ally ically
"""
"""Words and word endings, so that the tokenizers also cut text from outside the corpus well."""
