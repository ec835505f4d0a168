# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Extragradient against descent-ascent
#
# In the game $\min_x \max_y x^\top A y$ each player's gradient is turned by a right angle from the way to the solution
# $(0, 0)$. Descent-ascent therefore spirals outwards for every step size; extragradient looks one step ahead, and
# converges.

# %%
from attractor import run
from attractor.games import Extragradient, GradientDescentAscent
from attractor.problems import bilinear_game

game = bilinear_game()
rates = [0.01, 0.03, 0.1, 0.3]
how = {"sweep": {"learning_rate": rates}, "steps": 500, "seeds": 3, "progress": False}
ahead = run(game, Extragradient, **how)
plain = run(game, GradientDescentAscent, **how)

# %% [markdown]
# One compiled program runs all rates and seeds. The distance to the solution, at the start and after 500 steps:

# %%
for name, trace in {"descent-ascent": plain, "extragradient": ahead}.items():
    for i, rate in enumerate(rates):
        start, end = trace["distance"].values[i, :, [0, -1]].mean(1)
        print(f"{name:>15} at {rate:<5}: {start:.3f} → {end:.3g}")

# %%
ahead.plot("distance")

# %%
plain.plot("distance")
