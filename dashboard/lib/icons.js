/**
 * Small line icons, drawn in the colour of the text. Decoration: the name stands beside them or in a label.
 * @module
 */
import { html } from "./preact.js";

/** @param {string[]} paths */
const icon = (...paths) => (/** @type {{ size?: number, class?: string }} */ { size = 18, class: name = "" } = {}) => html`
  <svg class=${`icon ${name}`} viewBox="0 0 24 24" width=${size} height=${size} fill="none" stroke="currentColor"
    stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true" focusable="false">
    ${paths.map((d) => html`<path d=${d} />`)}
  </svg>`;

export const HomeIcon = icon("M4 11 12 4l8 7", "M6 9.5V20h12V9.5", "M10 20v-6h4v6");
export const ChatIcon = icon("M4 5h16v11H9l-5 4z", "M8 9h8", "M8 12h5");
export const RequestsIcon = icon("M4 8h13", "m14 5 3 3-3 3", "M20 16H7", "m10 13-3 3 3 3");
export const SessionsIcon = icon("M4 5h12v8H8l-4 3z", "M19 9v11l-4-3H9");
export const StatisticsIcon = icon("M4 4v16h16", "M8 16v-4", "M12 16V8", "M16 16v-6");
export const ProvidersIcon = icon("M5 4h14v6H5z", "M5 14h14v6H5z", "M8 7h.01", "M8 17h.01");
export const ModelsIcon = icon("m12 3 8 4.5v9L12 21l-8-4.5v-9z", "m4 7.5 8 4.5 8-4.5", "M12 12v9");
export const CredentialsIcon = icon("M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8", "M5 20c.6-3.6 3.4-5 7-5s6.4 1.4 7 5");
export const KeysIcon = icon("M8 18a4 4 0 1 0 0-8 4 4 0 0 0 0 8", "m11 11 8-7", "m16 7 3 3");
export const SupervisionIcon = icon("M10 3h4v4h-4z", "M4 17h4v4H4z", "M16 17h4v4h-4z", "M12 7v5", "M6 17v-5h12v5");
export const ActivityIcon = icon("M3 12h4l3-7 4 14 3-7h4");
export const LogsIcon = icon("M6 3h9l4 4v14H6z", "M9 11h7", "M9 14h7", "M9 17h4");
export const SettingsIcon = icon("M4 7h9", "M17 7h3", "M15 5v4", "M4 17h3", "M11 17h9", "M9 15v4");
export const ApiIcon = icon("m8 7-5 5 5 5", "m16 7 5 5-5 5", "m13.5 5-3 14");
export const SunIcon = icon("M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8", "M12 2v2", "M12 20v2", "M2 12h2", "M20 12h2", "m5 5 1.4 1.4", "m17.6 17.6 1.4 1.4", "m5 19 1.4-1.4", "m17.6 6.4 1.4-1.4");
export const MoonIcon = icon("M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5");
export const AutoIcon = icon("M12 3a9 9 0 1 0 0 18z", "M12 3a9 9 0 0 1 0 18");
export const MenuIcon = icon("M4 7h16", "M4 12h16", "M4 17h16");
export const CloseIcon = icon("m6 6 12 12", "M18 6 6 18");
export const SearchIcon = icon("M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13", "m15.5 15.5 5 5");
export const PlayIcon = icon("M7 5v14l11-7z");
export const StopIcon = icon("M7 7h10v10H7z");
export const CopyIcon = icon("M9 9h11v11H9z", "M5 15H4V4h11v1");
export const CheckIcon = icon("m5 12.5 4.5 4.5L19 7.5");
export const RefreshIcon = icon("M20 11a8 8 0 0 0-14.5-3.5L4 9", "M4 4v5h5", "M4 13a8 8 0 0 0 14.5 3.5L20 15", "M20 20v-5h-5");
export const WarnIcon = icon("M12 4 2.5 20h19z", "M12 10v4", "M12 17h.01");
export const InfoIcon = icon("M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18", "M12 11v5", "M12 8h.01");
export const TrashIcon = icon("M5 7h14", "M9 7V4h6v3", "m7 7 1 13h8l1-13");
export const PlusIcon = icon("M12 5v14", "M5 12h14");
export const ChevronIcon = icon("m9 6 6 6-6 6");
export const ExternalIcon = icon("M14 4h6v6", "m20 4-9 9", "M18 14v6H4V6h6");
